"""One position of every gap at a time, so that what is filled in together stands apart: dInfer's hierarchical decoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dlm_runtime.policies.sampler import Bools, Int64, SamplerStep


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """`HierarchyDecoder` of dInfer (Ma et al. 2025, arXiv:2510.08666).

    With c the confidence, a masked position i is committed if c_i > `threshold`, or c_i > `low_threshold` and c_i is the largest of its
    unbroken run of masks, or c_i is the largest of all. Equals of a run's largest are committed with it, as published; of all, the first
    is. 0.4 is dInfer's default, 0.9 what its documentation decodes with.
    """

    threshold: float = 0.9
    low_threshold: float = 0.4

    wants_logits: ClassVar[bool] = False
    memory_width: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"{self.threshold=} must be a probability between 0 and 1")
        if not 0 <= self.low_threshold <= 1:
            raise ValueError(f"{self.low_threshold=} must be a probability between 0 and 1")

    @property
    def parameters(self) -> tuple[float, ...]:
        """As `choose` reads them."""
        return (self.threshold, self.low_threshold)

    @staticmethod
    def choose(step: SamplerStep, mask_token_id: int) -> tuple[Int64, Bools]:
        """See `Sampler`."""
        threshold, low_threshold = step.parameters.T[:, :, None]
        confidence = np.where(step.masked, step.confidence, -np.inf)  # [n, W]
        rows, width = confidence.shape
        starts = step.masked & ~np.pad(step.masked, ((0, 0), (1, 0)))[:, :-1]
        run = np.cumsum(starts, axis=1, dtype=np.int64)  # from 1; what is not masked counts to the run before it, and is no rival at -inf
        best = np.full((rows, width + 1), -np.inf)
        np.maximum.at(best, (np.arange(rows)[:, None], run), confidence)
        leads = confidence == np.take_along_axis(best, run, 1)
        first = np.arange(width) == confidence.argmax(1)[:, None]
        taken = step.masked & ((confidence > threshold) | (leads & (confidence > low_threshold)) | first)
        return np.where(taken, step.sampled, step.tokens), np.zeros(rows, np.bool_)
