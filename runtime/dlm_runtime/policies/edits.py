"""Filling in and correcting at once: LLaDA2.1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dlm_runtime.policies.sampler import Bools, Int64, SamplerStep, surest_first


@dataclass(frozen=True, slots=True)
class Edits:
    """Fills in all masked positions surer than `threshold`, or the quota's number of surest ones where that is more, and replaces tokens of
    the window by what is now drawn there with more than `editing_threshold`.

    When no mask is left, up to `max_post_steps` more passes follow, until one changes nothing. Its memory counts them.
    """

    threshold: float
    editing_threshold: float
    max_post_steps: int

    edits: ClassVar[bool] = True
    wants_logits: ClassVar[bool] = False
    memory_width: ClassVar[int] = 1

    @property
    def parameters(self) -> tuple[float, ...]:
        """As `choose` reads them."""
        return (self.threshold, self.editing_threshold, float(self.max_post_steps))

    @staticmethod
    def choose(step: SamplerStep, mask_token_id: int) -> tuple[Int64, Bools]:
        """The window's tokens [n, W], and which rows are through with their block [n]."""
        threshold, editing_threshold, max_post_steps = step.parameters.T[:, :, None]
        sure = step.masked & (step.confidence > threshold)
        best = step.masked & (surest_first(step.confidence, step.masked) < step.quota[:, None])
        filled = np.where(sure.sum(1, keepdims=True) >= step.quota[:, None], sure, best)
        written = step.inside & ~step.masked
        edited = written & (step.confidence > editing_threshold) & (step.sampled != step.tokens)
        was_clean, is_clean = ~step.masked.any(1), ~(step.masked & ~filled).any(1)
        step.memory[:, 0, 0] += was_clean
        is_last = step.memory[:, 0, 0] >= max_post_steps[:, 0]
        done = is_clean & (is_last | (was_clean & ~edited.any(1)))
        return np.where(filled | edited, step.sampled, step.tokens), done
