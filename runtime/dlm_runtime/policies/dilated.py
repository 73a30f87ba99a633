"""Positions far from each other first, then those between them, whatever the model says: DUS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dlm_runtime.policies.sampler import Bools, Int64, SamplerStep


@dataclass(frozen=True, slots=True)
class Dilated:
    """The dilated unmasking scheduler (Luxembourg et al. 2025, arXiv:2506.19037; github.com/omerlux/DUS, `dilated_unmask_levels`).

    With B positions in the window, counted from 0, pass t = 1, 2, ... commits every position that is a multiple of floor(B / `base`^t) and
    not committed yet; the last pass, in which that would be less than 1, what is left. A last group smaller than the one before joins it.
    So a block of B takes about log_base B passes: 8 positions are {0, 4}, {2, 6}, {1, 3, 5, 7}.

    `least_confidence` > 0 puts a position off to the next pass whose confidence is below, as the paper's skip rule says; the last pass
    takes all. The published code, whose default is 0.3, masks such positions again and never comes back to them.
    """

    base: int = 2
    least_confidence: float = 0.0

    wants_logits: ClassVar[bool] = False
    memory_width: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if self.base < 2:
            raise ValueError(f"{self.base=} must be at least 2")
        if not 0 <= self.least_confidence <= 1:
            raise ValueError(f"{self.least_confidence=} must be a probability between 0 and 1")

    @property
    def parameters(self) -> tuple[float, ...]:
        """As `choose` reads them."""
        return (float(self.base), self.least_confidence)

    @staticmethod
    def choose(step: SamplerStep, mask_token_id: int) -> tuple[Int64, Bools]:
        """See `Sampler`."""
        base, least_confidence = step.parameters.T[:, :, None]
        group = groups(step.inside, base[:, 0].astype(np.int64))
        last = np.where(step.inside, group, 0).max(1)
        turn = step.masked & (group <= step.step[:, None])
        is_last = (step.step >= last)[:, None]
        taken = turn & (is_last | (step.confidence >= least_confidence))
        return np.where(taken, step.sampled, step.tokens), np.zeros(len(taken), np.bool_)


def groups(inside: Bools, base: Int64) -> Int64:
    """In which pass, from 0, a position of a window is committed, [n, W]; windows stand on the left of `inside` [n, W], `base` [n]."""
    size = inside.sum(1)
    offsets = np.arange(inside.shape[1])
    left = np.ones_like(inside)
    group = np.zeros(inside.shape, np.int64)
    stride = size // base
    while (stride > 0).any():
        left &= (stride[:, None] == 0) | (offsets % np.maximum(stride, 1)[:, None] != 0)
        group += left & (stride > 0)[:, None]
        stride = stride // base
    last = np.where(inside, group, 0).max(1)
    count, before = ((inside & (group == (last - back)[:, None])).sum(1) for back in (0, 1))
    joins = (count < before)[:, None] & (group == last[:, None])
    return group - joins
