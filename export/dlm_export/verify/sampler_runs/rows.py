"""Rows of a run that is one canvas per row: prompts with padding on the left, or of several lengths with padding on the right."""

from __future__ import annotations

from collections.abc import Callable

from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Directive, Policy
from dlm_runtime.policies.sampling import Sampling

from .parameters import UnsupportedRun
from .prepared import Ids, Key, PreparedRow, RecordedRun, in_order

KeyOf = Callable[[Directive, Line, int], Key]
PolicyFor = Callable[[tuple[int, ...]], Policy]


def padded_rows(
    run: RecordedRun, policy: Policy, limit: int, sampling: Sampling, *, keeps_positions: bool, key: KeyOf = in_order
) -> list[PreparedRow]:
    """Rows whose padding is dropped. `keeps_positions`: positions count it, as columns do; else from the first real token."""
    return [padded_row(run, row, policy, limit, sampling, keeps_positions, key) for row in range(len(run.prompt_ids))]


def padded_row(
    run: RecordedRun, row: int, policy: Policy, limit: int, sampling: Sampling, keeps_positions: bool, key: KeyOf
) -> PreparedRow:
    """One of them; what is returned has the padding in front."""
    prompt = run.prompt_ids[row]
    pads = left_padding(run, row)
    line = Line(prompt[pads:], limit, (), sampling, first_position=pads if keeps_positions else 0, block_origin=-pads)

    def returned(line: Line) -> Ids:
        return prompt[:pads] + line.canvas.tolist()

    return PreparedRow(policy, line, returned, key, canvas=returned)


def left_padding(run: RecordedRun, row: int) -> int:
    """How many columns of a row are padding."""
    if run.attention_mask is None:
        return 0
    mask = run.attention_mask[row]
    pads = mask.index(1) if 1 in mask else len(mask)
    if 0 in mask[pads:] or pads == len(mask):
        raise UnsupportedRun("attention_mask", mask, "padding stands on the left, and every row has tokens")
    return pads


def uneven_rows(
    run: RecordedRun, lengths: list[int], policy: PolicyFor, limit: int, sampling: Sampling, eos_token_id: int, key: KeyOf = in_order
) -> list[PreparedRow]:
    """Rows of prompts of `lengths`; what is returned is filled up with `eos_token_id` to the length of the longest.

    `policy` is told what fills up the row.
    """
    longest = max(lengths)

    def row(prompt: Ids) -> PreparedRow:
        padding = [eos_token_id] * (longest - len(prompt))

        def returned(line: Line) -> Ids:
            return line.canvas[: len(prompt) + limit].tolist() + padding

        return PreparedRow(policy(tuple(padding)), Line(prompt, limit, (), sampling), returned, key, canvas=returned)

    return [row(prompt[:length]) for prompt, length in zip(run.prompt_ids, lengths, strict=True)]
