"""A threshold with a schedule on top: at most so many positions, however sure more of them are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dlm_runtime.policies.sampler import Bools, Int64, SamplerStep, surest_first


@dataclass(frozen=True, slots=True)
class CappedThreshold:
    """Commits the positions that reach `threshold`, the surest in any case, but leaves a pass's quota of masks (Fast-dLLM for Dream)."""

    threshold: float

    wants_logits: ClassVar[bool] = False
    memory_width: ClassVar[int] = 0

    @property
    def parameters(self) -> tuple[float, ...]:
        """The threshold."""
        return (self.threshold,)

    @staticmethod
    def choose(step: SamplerStep, mask_token_id: int) -> tuple[Int64, Bools]:
        """See `Sampler`."""
        rank = surest_first(step.confidence, step.masked)  # [n, W]
        most = step.masked.sum(1) - step.quota
        sure = (step.confidence >= step.parameters[:, :1]) | (rank == 0)
        taken = step.masked & sure & (rank < most[:, None])
        return np.where(taken, step.sampled, step.tokens), np.zeros(len(taken), np.bool_)
