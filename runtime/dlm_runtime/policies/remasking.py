"""Committed tokens may be masked again and get another chance: ReMDM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from dlm_kernels.unmask.draws import uniform_of

from dlm_runtime.policies.sampler import Bools, Int64, SamplerStep


@dataclass(frozen=True, slots=True)
class Remasking:
    """ReMDM with a capped chance of remasking, `remdm-cap` (Wang et al. 2025, arXiv:2503.00307).

    Of T passes, pass i from 0 goes from a_t = i / T to a_s = (i + 1) / T unmasked (the linear schedule). A committed position is masked
    again with probability sigma = min(`eta`, (1 - a_s) / a_t), a masked one committed with (a_s - (1 - sigma) a_t) / (1 - a_t). T is
    `steps`, or with 0 the number of the window's positions. All T passes are run; the last one has sigma 0 and commits what is left.
    0.008 is the published default, for as many passes as there are tokens.

    Which positions, is drawn from the line's seed, the pass and the position alone. Tokens are the pass's own, hence at temperature 0 the
    likeliest, where the published sampler draws from the 0.9 nucleus: ask for temperature 1 and top_p 0.9. The published schedule ends at
    t = 1e-5 and lets a last pass take the likeliest tokens; this one ends at 0. What stood in the window before is never masked.
    """

    vocab_size: int
    eta: float = 0.008
    steps: int = 0

    edits: ClassVar[bool] = True
    wants_logits: ClassVar[bool] = False
    memory_width: ClassVar[int] = 2  # 1 where the position is the line's to write; 1 once there was a pass

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"{self.eta=} must be a probability between 0 and 1")
        if self.steps < 0:
            raise ValueError(f"{self.steps=} must be at least 1, or 0 for as many as the window has positions")

    @property
    def parameters(self) -> tuple[float, ...]:
        """As `choose` reads them."""
        return (self.eta, float(self.steps), float(self.vocab_size))

    @staticmethod
    def choose(step: SamplerStep, mask_token_id: int) -> tuple[Int64, Bools]:
        """See `Sampler`."""
        eta, steps = step.parameters.T[:2].astype(np.float64)
        begins = (step.memory[..., 1] == 0) & ((step.step > 0)[:, None] | step.masked)  # a later pass of a block finds only the line's own
        step.memory[..., 0] = np.maximum(step.memory[..., 0], begins & step.inside)
        step.memory[..., 1] = 1
        own = step.inside & ~step.masked & (step.memory[..., 0] > 0)
        total = np.where(steps > 0, steps, step.inside.sum(1))
        before, after = np.minimum(step.step, total - 1) / total, np.minimum(step.step + 1, total) / total
        sigma = np.minimum(eta, np.divide(1 - after, before, out=np.full(len(total), np.inf), where=before > 0))
        fills = np.where(after == 1, 1.0, (after - (1 - sigma) * before) / (1 - before))
        column = step.parameters[:, 2].astype(np.int64) + _COLUMN
        chances = uniform_of(step.seed, step.step + 1, step.positions, column[:, None, None])[..., 0]  # [n, W]
        filled, remasked = step.masked & (chances < fills[:, None]), own & (chances < sigma[:, None])
        tokens = np.where(filled, step.sampled, np.where(remasked, mask_token_id, step.tokens))
        return tokens, step.step + 1 >= total


_COLUMN = 2
"""The column of random numbers behind the tokens': ranks and DiffusionGemma's canvases have 0 and 1."""
