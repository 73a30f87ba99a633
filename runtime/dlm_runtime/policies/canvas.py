"""What the policies that denoise one long canvas share: where its blocks lie and where its first mask is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Span


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
