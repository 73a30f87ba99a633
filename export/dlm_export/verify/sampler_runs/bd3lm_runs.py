"""dllm's sampler for block diffusion."""

from __future__ import annotations

from collections.abc import Sequence

from dlm_runtime.bundle import Manifest
from dlm_runtime.policies.bd3lm import BlockSampler
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.quotas import SCHEDULES
from dlm_runtime.policies.sampling import Sampling

from .dllm_runs import common
from .parameters import Parameters, UnsupportedRun
from .prepared import Ids, Log, PreparedRow, PreparedRun, RecordedRun, slowest_rows


def prepare_bd3lm(run: RecordedRun, manifest: Manifest) -> PreparedRun:
    """`BD3LMSampler.sample`: what is returned has padding in front, up to a multiple of the block.

    A batch goes on until all of its rows have written an end of line, as long as the recorded one did: rows do not know of each other here.
    """
    given = Parameters(run)
    lengths, limit, _ = common(given, run)
    length, pad, eos = given.positive("block_size", 32), given.integer("pad_id"), given.optional_integer("eos_id")
    blocks = -(-limit // length)
    steps = given.positive("steps", 128)
    guidance = given.number("cfg_scale", 0.0)
    policy = BlockSampler(
        length,
        given.mask("mask_id", manifest),
        steps_per_block=given.optional_integer("steps_per_block") or -(-steps // blocks),
        shift=int(bool(given.get("right_shift_logits", False))),
        schedule=given.choice("scheduler", "linear", SCHEDULES),
        as_published=True,
    )
    sampling = Sampling(guidance=guidance, guidance_keeps=given.ids("cfg_keep_tokens"), banned_token_ids=())
    given.finish()
    prompts = [prompt[:size] for prompt, size in zip(run.prompt_ids, lengths, strict=True)]
    padded = -(-max(lengths) // length) * length
    written = min(limit, len(run.output_ids[0]) - padded)
    if written < 1:
        raise UnsupportedRun("output_ids", run.output_ids, f"the published loop returns more than the {padded} columns of the prompts")
    read_again = padded + max(written - 1, 0) // length * length  # columns of all blocks but the last
    if any(pad in prompt for prompt in prompts) or any(pad in row[padded:read_again] for row in run.output_ids):
        raise UnsupportedRun("pad_id", pad, "the published loop takes a token of that id for padding wherever it stands")
    alone = len(lengths) == 1

    def row(prompt: Ids) -> PreparedRow:
        ends = (eos,) if alone and eos is not None else ()
        line = Line(prompt, limit if alone else written, ends, sampling)
        return PreparedRow(policy, line, lambda line: [pad] * (padded - len(prompt)) + line.canvas.tolist())

    def count(logs: Sequence[Log]) -> int:
        """With guidance the published loop runs every prefix and every block twice; ours needs no prefixes."""
        passes = slowest_rows(logs)
        return 2 * (passes + len(logs[0])) if guidance > 0 else passes

    return PreparedRun([row(prompt) for prompt in prompts], count)


RUNS = {"dllm_bd3lm": prepare_bd3lm}
