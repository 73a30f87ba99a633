"""Filling in from the left, however sure the model is: SDAR's `sequential`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dlm_runtime.policies.sampler import Bools, Int64, SamplerStep


@dataclass(frozen=True, slots=True)
class Leftmost:
    """Takes as many masked positions as the quota says, the first ones."""

    wants_logits: ClassVar[bool] = False
    memory_width: ClassVar[int] = 0

    @property
    def parameters(self) -> tuple[float, ...]:
        """None."""
        return ()

    @staticmethod
    def choose(step: SamplerStep, mask_token_id: int) -> tuple[Int64, Bools]:
        """The window's tokens [n, W]; it never ends a directive [n]."""
        taken = step.masked & (np.cumsum(step.masked, axis=1) <= step.quota[:, None])
        return np.where(taken, step.sampled, step.tokens), np.zeros(len(step.tokens), np.bool_)
