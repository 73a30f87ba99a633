"""Samplers that the op does not know: they decide from what it measured, for all their rows at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from dlm_kernels.unmask.reference import ranks
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SamplerStep:
    """One pass as n rows with the same kind of sampler see it; W window positions, padded on the right.

    `parameters` are the samplers' own numbers, one row each. `memory` starts as zeros with a directive and is the sampler's to change.
    """

    parameters: Float32  # [n, parameters]
    tokens: Int64  # [n, W] before the pass
    masked: Bools  # [n, W] masked, and in the window
    inside: Bools  # [n, W] in the window, False on padding
    sampled: Int64  # [n, W]
    confidence: Float32  # [n, W]
    entropy: Float32  # [n, W]
    quota: Int64  # [n]
    step: Int64  # [n] passes of this directive before this one, plus its first_step
    seed: Int64  # [n]
    positions: Int64  # [n, W]
    memory: Float32  # [n, W, memory_width]
    likeliest: Int64  # [n, W] token of the largest shaped logit (`top_ids[..., 0]`); that of `sampled` at temperature 0
    logits: Float32 | None  # [n, W, V] raw, where `wants_logits`
    previous_logits: Float32 | None  # [n, W, V] those of the pass before, zeros in the first, where `wants_logits`


class Sampler(Protocol):
    """A frozen dataclass of numbers with one method that is the same for all instances of its class."""

    wants_logits: ClassVar[bool]
    memory_width: ClassVar[int]

    @property
    def parameters(self) -> tuple[float, ...]: ...

    @staticmethod
    def choose(step: SamplerStep, mask_token_id: int) -> tuple[Int64, Bools]:
        """The window's tokens after the pass [n, W], and which rows are done whatever `until` says [n]."""
        ...


def surest_first(confidence: NDArray[np.floating], masked: Bools) -> Int64:
    """Place of every masked position in its row, 0 for the surest; the lower one wins a tie, the others come last. [n, W] -> [n, W]."""
    return ranks(np.where(masked, confidence, -np.inf))
