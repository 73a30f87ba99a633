"""Tokens that are never sure: they may be drawn, but every other position is filled in first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dlm_runtime.policies.sampler import Bools, Int64, SamplerStep, surest_first

MOST_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Hesitant:
    """Commits the quota of the surest positions, where `token_ids` count as impossible once tokens are drawn.

    The others share their probability (LLaDA's `confidence_eos_eot_inf` as it works at temperature 0, dllm's `begin_suppress_tokens`). At
    most MOST_TOKENS ids; raises ValueError otherwise.
    """

    token_ids: tuple[int, ...]

    wants_logits: ClassVar[bool] = True
    memory_width: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if not 0 < len(self.token_ids) <= MOST_TOKENS:
            raise ValueError(f"{self.token_ids=} must be 1 to {MOST_TOKENS} token ids")

    @property
    def parameters(self) -> tuple[float, ...]:
        """The ids, then -1."""
        return (*map(float, self.token_ids), *[-1.0] * (MOST_TOKENS - len(self.token_ids)))

    @staticmethod
    def choose(step: SamplerStep, mask_token_id: int) -> tuple[Int64, Bools]:
        """See `Sampler`."""
        assert step.logits is not None  # wants_logits
        ids = step.parameters.astype(np.int64)
        unsure = np.zeros((len(ids), step.logits.shape[-1] + 1), np.bool_)  # [n, V], and a column for -1
        np.put_along_axis(unsure, ids, True, 1)
        logits = np.where(unsure[:, None, :-1], -np.inf, step.logits.astype(np.float64))  # [n, W, V]
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        drawn = np.take_along_axis(weights, step.sampled[..., None], -1)[..., 0] / weights.sum(-1)
        taken = step.masked & (surest_first(drawn, step.masked) < step.quota[:, None])
        return np.where(taken, step.sampled, step.tokens), np.zeros(len(taken), np.bool_)
