"""Committing what is sure and has stopped changing: KLASS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dlm_runtime.policies.sampler import Bools, Float32, Int64, SamplerStep, surest_first


@dataclass(frozen=True, slots=True)
class Klass:
    """KL-adaptive stability sampling (Kim et al. 2025, arXiv:2511.05664; github.com/shkim0116/KLASS, `stable_confident_decode`).

    With p_t the distribution of a position in pass t, a masked position is committed if its confidence is above `confidence` and
    KL(p_t || p_t-1) = sum p_t (log p_t - log p_t-1) was below `divergence` in each of the last `history` passes. A pass without any such
    position commits the surest ones, as many as the loop's quota says and at least one. Defaults are those of the published GSM8K run.

    p are the model's own distributions, over all tokens and at temperature 1. The published code adds the Gumbel noise before it takes
    them, and lets a block's history go on from the block before; here it begins with a directive, so the first `history` passes of one are
    never stable.
    """

    confidence: float = 0.6
    divergence: float = 0.015
    history: int = 2

    wants_logits: ClassVar[bool] = True
    memory_width: ClassVar[int] = 2  # how many passes in a row the divergence was small; 1 once there was a pass

    def __post_init__(self) -> None:
        if not 0 <= self.confidence <= 1:
            raise ValueError(f"{self.confidence=} must be a probability between 0 and 1")
        if self.divergence < 0:
            raise ValueError(f"{self.divergence=} must be at least 0 nats")
        if self.history < 1:
            raise ValueError(f"{self.history=} must be at least 1 pass")

    @property
    def parameters(self) -> tuple[float, ...]:
        """As `choose` reads them."""
        return (self.confidence, self.divergence, float(self.history))

    @staticmethod
    def choose(step: SamplerStep, mask_token_id: int) -> tuple[Int64, Bools]:
        """See `Sampler`."""
        assert step.logits is not None  # wants_logits
        assert step.previous_logits is not None
        least, divergence, history = step.parameters.T[:, :, None]
        changed = np.full(step.masked.shape, np.inf)
        changed[step.masked] = divergences(step.logits[step.masked], step.previous_logits[step.masked])
        steady = (changed < divergence) & (step.memory[..., 1] > 0)
        step.memory[..., 0] = np.where(steady, step.memory[..., 0] + 1, 0)
        step.memory[..., 1] = 1
        ready = step.masked & (step.confidence > least) & (step.memory[..., 0] >= history)
        best = step.masked & (surest_first(step.confidence, step.masked) < np.maximum(step.quota, 1)[:, None])
        taken = np.where(ready.any(1, keepdims=True), ready, best)
        return np.where(taken, step.sampled, step.tokens), np.zeros(len(taken), np.bool_)


def divergences(logits: Float32, previous: Float32) -> NDArray[np.float64]:
    """KL(softmax(logits) || softmax(previous)) in nats, [m, V] -> [m]."""
    log_p, log_q = _log_softmax(logits), _log_softmax(previous)
    return (np.exp(log_p) * (log_p - log_q)).sum(-1)


def _log_softmax(logits: Float32) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
