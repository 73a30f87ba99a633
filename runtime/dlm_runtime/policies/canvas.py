"""What the policies that denoise one long canvas share: its blocks one after the other, and where its first mask is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Decoding, Span


class Blockwise(Protocol):
    """A policy that spreads `steps` passes over blocks of `block_length` columns."""

    @property
    def block_length(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def as_published(self) -> bool: ...


def check_schedule(policy: Blockwise) -> None:
    """Raises ValueError where block length or steps are below 1."""
    for name, value in (("block_length", policy.block_length), ("steps", policy.steps)):
        if value < 1:
            raise ValueError(f"self.{name}={value} must be at least 1")


def block_by_block(policy: Blockwise, line: Line, denoise: Callable[[Span, int], Decoding]) -> Decoding:
    """Asks for what `denoise` says of every block, given it and the number of blocks, and hands the tokens to the line.

    A line that is served ends with the block that holds its end; a published loop goes through all of them first.
    """
    blocks = list(blocks_behind(line, policy.block_length))
    for block in blocks:
        yield from denoise(block, len(blocks))
        if not policy.as_published and settle(line, block):
            return
    if policy.as_published:
        settle(line, (blocks[0][0], blocks[-1][1]))


def blocks_behind(line: Line, block_length: int) -> Iterator[Span]:
    """Blocks of the `line.limit` columns behind the prompt; the last one may be shorter."""
    stop = line.prompt_length + line.limit
    return ((start, min(start + block_length, stop)) for start in range(line.prompt_length, stop, block_length))


def masks_in(line: Line, span: Span, mask_token_id: int) -> int:
    """How many columns of `span` are masked."""
    return int((line.canvas[slice(*span)] == mask_token_id).sum())


def from_first_mask(line: Line, stop: int, mask_token_id: int) -> Span:
    """Columns before `stop` that may be filled in, from the first one that is masked; there has to be one."""
    return int(np.flatnonzero(line.canvas[:stop] == mask_token_id)[0]), stop


def settle(line: Line, span: Span) -> bool:
    """Hands columns of the canvas to the line; True when it has ended there."""
    return line.extend(line.canvas[slice(*span)].tolist())
