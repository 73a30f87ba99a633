"""The three loops of Nemotron-Labs-Diffusion."""

from __future__ import annotations

from dlm_runtime.bundle import Manifest
from dlm_runtime.policies.autoregressive import Autoregressive
from dlm_runtime.policies.diffusion import ThresholdDiffusion
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Policy
from dlm_runtime.policies.sampling import Sampling
from dlm_runtime.policies.self_speculation import LinearSelfSpeculation
from dlm_runtime.policies.thinking import ThinkingBudget

from .coupled import CutBlocks, denoising_calls
from .parameters import Parameters, UnsupportedRun
from .prepared import PreparedRow, PreparedRun, RecordedRun

EXACT = Sampling(banned_token_ids=())


def prepare_diffusion(run: RecordedRun, manifest: Manifest) -> PreparedRun:
    """`generate`, whose `steps` are for the whole line."""
    given = Parameters(run)
    length, limit = given.positive("block_length", 32), given.positive("max_new_tokens", 128)
    if limit % length:
        raise UnsupportedRun("max_new_tokens", limit, f"the published loop writes whole blocks of {length}")
    steps = given.get("steps")
    policy = ThresholdDiffusion(
        length,
        given.mask("mask_token_id", manifest),
        given.optional_number("threshold") if "threshold" in run.params else 0.9,
        causal_context=bool(given.get("causal_context", True)),
        as_published=True,
        steps_per_block=None if steps is None else given.positive("steps") // (limit // length),
        thinking=thinking(given),
    )
    given.only("shift_logits", False, why="the published checkpoints do not shift")
    return finished(given, run, manifest, policy, limit)


def prepare_ar(run: RecordedRun, manifest: Manifest) -> PreparedRun:
    """`ar_generate`."""
    given = Parameters(run)
    return finished(given, run, manifest, Autoregressive(thinking(given)), given.positive("max_new_tokens", 128))


def prepare_linear(run: RecordedRun, manifest: Manifest) -> PreparedRun:
    """`linear_spec_generate`."""
    given = Parameters(run)
    policy = LinearSelfSpeculation(
        given.positive("block_length", 32),
        given.mask("mask_token_id", manifest),
        draft_threshold=given.number("threshold", 0.0),
        as_published=True,
        thinking=thinking(given),
    )
    return finished(given, run, manifest, policy, given.positive("max_new_tokens", 128), overshoots=True)


def thinking(given: Parameters) -> ThinkingBudget:
    """Both have to be there for either to count."""
    tokens, end = given.optional_integer("max_thinking_tokens"), given.optional_integer("end_think_token_id")
    return ThinkingBudget() if tokens is None or end is None else ThinkingBudget(tokens, end)


def finished(
    given: Parameters, run: RecordedRun, manifest: Manifest, policy: Policy, limit: int, *, overshoots: bool = False
) -> PreparedRun:
    """One row per prompt; what is returned ends with the first end of line."""
    given.only("temperature", 0, why="draws of the reference cannot be repeated")
    eos = given.optional_integer("eos_token_id")
    ends = manifest.eos_token_ids if eos is None else (eos,)
    given.finish()
    longest = len(run.prompt_ids[0])
    if len(run.prompt_ids) > 1 and any(token_id in ends for row in run.output_ids for token_id in row[longest:]):
        return ends_in_batch(run, policy)

    def row(prompt: list[int]) -> PreparedRow:
        line = Line(prompt, limit, ends, EXACT, overshoots=overshoots)
        return PreparedRow(policy, line, lambda line: [*line.prompt_ids, *line.tokens])

    return PreparedRun([row(prompt) for prompt in run.prompt_ids])


def ends_in_batch(run: RecordedRun, policy: Policy) -> PreparedRun:
    """In a batch rows go on until all have ended, and the first row that ends in a block of diffusion ends it for all, with masks left.

    How long that was is taken from the recording.
    """
    new = limit = len(run.output_ids[0]) - len(run.prompt_ids[0])
    if isinstance(policy, ThresholdDiffusion):
        limits = denoising_calls(run)
        limit, policy = len(limits) * policy.block_length, CutBlocks(policy, limits)

    def row(prompt: list[int]) -> PreparedRow:
        return PreparedRow(policy, Line(prompt, limit, (), EXACT), lambda line: [*line.prompt_ids, *line.tokens[:new]])

    return PreparedRun([row(prompt) for prompt in run.prompt_ids])


RUNS = {"nemotron_diffusion": prepare_diffusion, "nemotron_ar": prepare_ar, "nemotron_linear_spec": prepare_linear}
