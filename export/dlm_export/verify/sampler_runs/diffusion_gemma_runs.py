"""DiffusionGemma's loop, with the random canvases of the recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

from dlm_runtime.bundle import Manifest
from dlm_runtime.policies.diffusion_gemma import CanvasDiffusion
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Directive, Passes
from dlm_runtime.policies.sampling import Sampling

from .parameters import Parameters, UnsupportedRun, is_id, recorded_calls
from .prepared import Ids, Key, Log, PreparedRow, PreparedRun, RecordedRun, slowest_rows
from .rows import left_padding

Canvases = tuple[tuple[tuple[tuple[int, ...], ...], ...], ...]
"""By canvas, by call, by row."""


def prepare_diffusion_gemma(run: RecordedRun, manifest: Manifest) -> PreparedRun:
    """`DiffusionGemmaGenerationMixin.generate`. Padding keeps its positions; passes of the encoder are not counted."""
    given = Parameters(run)
    limit, steps = given.positive("max_new_tokens", 256), given.positive("max_denoising_steps", 48)
    t_min, t_max = given.optional_number("t_min", 0.4), given.optional_number("t_max", 0.8)
    stability, confidence = given.optional_integer("stability_threshold", 1), given.optional_number("confidence_threshold", 0.005)
    bound = given.number("entropy_bound", 0.1)
    pad = given.optional_integer("pad_token_id", manifest.pad_token_id)
    ends = given.ids("eos_token_id") if isinstance(given.get("eos_token_id"), list) else optional(given.optional_integer("eos_token_id"))
    given.finish()
    canvases = canvases_of(run, manifest)

    def row(number: int) -> PreparedRow:
        own = tuple(tuple(state[number] for state in canvas) for canvas in canvases)
        policy = CanvasDiffusion(manifest.block_length, manifest.vocab_size, bound, steps, t_min, t_max, stability, confidence, own)
        pads, prompt = left_padding(run, number), run.prompt_ids[number]
        line = Line(prompt[pads:], limit, ends, Sampling(banned_token_ids=()), first_position=pads)

        def output(line: Line) -> Ids:
            return finished(prompt[:pads] + line.canvas.tolist(), len(prompt), ends, pad, len(run.output_ids[number]))

        return PreparedRow(policy, line, output, key)

    return PreparedRun([row(number) for number in range(len(run.prompt_ids))], count)


def key(directive: Directive, line: Line, number: int) -> Key:
    """Passes of the decoder by their place, those of the encoder all alike."""
    return number if isinstance(directive, Passes) and directive.self_conditions else None


def count(logs: Sequence[Log]) -> int:
    """Passes of the decoder."""
    return slowest_rows([[entry for entry in log if entry[0] is not None] for log in logs])


def optional(token_id: int | None) -> tuple[int, ...]:
    """At most one token."""
    return () if token_id is None else (token_id,)


def canvases_of(run: RecordedRun, manifest: Manifest) -> Canvases:
    """The random canvases, as many lists as canvases were settled: the one to begin with, and one after every call."""
    recorded, calls = run.fields.get("random_canvases"), recorded_calls(run, "self_conditioned")
    begins = [number for number, call in enumerate(calls) if not call["self_conditioned"]]
    if begins[:1] != [0]:
        raise UnsupportedRun("calls", calls, "the first call of the published loop is not self-conditioned")
    expected = (len(calls) + len(begins), len(run.prompt_ids), manifest.block_length)
    if not is_stack_of_ids(recorded, expected, manifest.vocab_size):
        raise UnsupportedRun("random_canvases", recorded, "{} canvases of {} rows of {} token ids are needed".format(*expected))
    lengths = [stop - start for start, stop in zip(begins, [*begins[1:], len(calls)], strict=True)]
    starts = [sum(lengths[:number]) + number for number in range(len(lengths))]
    states = [tuple(tuple(row) for row in state) for state in recorded]
    return tuple(tuple(states[start : start + length + 1]) for start, length in zip(starts, lengths, strict=True))


def is_stack_of_ids(value: object, shape: tuple[int, int, int], vocab_size: int) -> TypeGuard[list[list[Ids]]]:
    """Whether something is lists of lists of lists of token ids, of that shape."""
    count, rows, length = shape
    return (
        is_list_of(value, count)
        and all(is_list_of(state, rows) for state in value)
        and all(is_list_of(row, length) for state in value for row in state)
        and all(is_id(token_id) and token_id < vocab_size for state in value for row in state for token_id in row)
    )


def is_list_of(value: object, length: int) -> TypeGuard[list[Any]]:
    """Whether something is a list of that length."""
    return isinstance(value, list) and len(value) == length


def finished(row: Ids, prompt_length: int, ends: tuple[int, ...], pad: int | None, length: int) -> Ids:
    """A row as the loop returns it: padding behind its first end of line, where there is a padding token, up to the batch's length."""
    end = next((i + 1 for i in range(prompt_length, len(row)) if row[i] in ends), None)
    if end is None or pad is None:
        return row
    return row[:end] + [pad] * (length - end)


RUNS = {"diffusion_gemma": prepare_diffusion_gemma}
