"""DiffusionGemma's loop, with the random canvases of the recording."""

from __future__ import annotations

from collections.abc import Sequence

from dlm_runtime.bundle import Manifest
from dlm_runtime.policies.diffusion_gemma import CanvasDiffusion
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Directive, Passes
from dlm_runtime.policies.sampling import Sampling

from .parameters import Parameters, UnsupportedRun
from .prepared import Ids, Key, Log, PreparedRow, PreparedRun, RecordedRun, slowest_rows
from .rows import left_padding

Canvases = tuple[tuple[tuple[tuple[int, ...], ...], ...], ...]
"""By canvas, by call, by row."""


def prepare_diffusion_gemma(run: RecordedRun, manifest: Manifest) -> PreparedRun:
    """`DiffusionGemmaGenerationMixin.generate`. Padding keeps its positions; passes of the encoder are not counted."""
    given = Parameters(run)
    limit, steps = given.positive("max_new_tokens", 256), given.positive("max_denoising_steps", 48)
    t_min, t_max = given.get("t_min", 0.4), given.get("t_max", 0.8)
    stability, confidence = given.get("stability_threshold", 1), given.get("confidence_threshold", 0.005)
    bound = given.number("entropy_bound", 0.1)
    pad, eos = given.get("pad_token_id", manifest.pad_token_id), given.get("eos_token_id")
    ends = tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,)
    given.finish()
    canvases = canvases_of(run)

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


def canvases_of(run: RecordedRun) -> Canvases:
    """The random canvases, as many lists as canvases were settled: the one to begin with, and one after every call."""
    recorded, calls = run.fields.get("random_canvases"), run.fields.get("calls")
    if not isinstance(recorded, list) or not isinstance(calls, list) or not calls:
        raise UnsupportedRun("random_canvases", None, "a run with the random canvases and calls of the loop is needed")
    begins = [number for number, call in enumerate(calls) if not call["self_conditioned"]]
    lengths = [stop - start for start, stop in zip(begins, [*begins[1:], len(calls)], strict=True)]
    starts = [sum(lengths[:number]) + number for number in range(len(lengths))]
    states = [tuple(tuple(row) for row in state) for state in recorded]
    return tuple(tuple(states[start : start + length + 1]) for start, length in zip(starts, lengths, strict=True))


def finished(row: Ids, prompt_length: int, ends: tuple[int, ...], pad: int | None, length: int) -> Ids:
    """A row as the loop returns it: padding behind its first end of line, where there is a padding token, up to the batch's length."""
    end = next((i + 1 for i in range(prompt_length, len(row)) if row[i] in ends), None)
    if end is None or pad is None:
        return row
    return row[:end] + [pad] * (length - end)


RUNS = {"diffusion_gemma": prepare_diffusion_gemma}
