"""Tokens that keep leading a position gain credit there, and with it confidence: dInfer's credit decoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from dlm_kernels.unmask.draws import uniform_of
from numpy.typing import NDArray

from dlm_runtime.policies.sampler import Bools, Int64, SamplerStep

Float64 = NDArray[np.float64]
SLOTS = 8
"""How many tokens of a position can have credit."""
_MARGIN = 1e-5  # positions that close to the best are committed with it, as published


@dataclass(frozen=True, slots=True)
class Credit:
    """`CreditThresholdParallelDecoder` of dInfer (Ma et al. 2025, arXiv:2510.08666).

    In every pass, at every masked position, all credit C is multiplied by `decay` and the likeliest token v gains p_v^`boost`. Then tokens
    are taken and measured by logits l + `alpha` log(C + 1): positions whose confidence is at least min(best - 1e-5, `threshold`) are
    committed. 0.7, 0.2 and 0.8 are published, 0.9 is the threshold dInfer's documentation decodes with.

    The published table of credit has an entry per token. Only tokens that have led have any, so here are the `SLOTS` of a position that
    have most; a ninth displaces the least. p and the leaders are of allowed tokens; there p is of all, and a position led by the mask token
    is passed over. The noise of a temperature is added to l + `alpha` log(C + 1), as published. top_k and top_p bound what is drawn without
    credit; a token with credit stays in play even where they would leave it out now. `temperature` is the line's.
    """

    threshold: float = 0.9
    alpha: float = 0.7
    boost: float = 0.2
    decay: float = 0.8
    temperature: float = 0.0

    wants_logits: ClassVar[bool] = True
    memory_width: ClassVar[int] = 2 * SLOTS  # tokens plus 1, or 0; their credit

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"{self.threshold=} must be a probability between 0 and 1")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"{self.decay=} must be between 0 and 1")
        for name in ("alpha", "boost", "temperature"):
            if getattr(self, name) < 0:
                raise ValueError(f"self.{name}={getattr(self, name)} must be at least 0")

    @property
    def parameters(self) -> tuple[float, ...]:
        """As `choose` reads them."""
        return (self.threshold, self.alpha, self.boost, self.decay, self.temperature)

    @staticmethod
    def choose(step: SamplerStep, mask_token_id: int) -> tuple[Int64, Bools]:
        """See `Sampler`."""
        assert step.logits is not None  # wants_logits
        threshold, alpha, boost, decay, temperature = step.parameters.T.astype(np.float64)[:, :, None]  # [n, 1]
        leading = _logits_of(step, step.likeliest[..., None])[..., 0]  # [n, W]
        drawn = _logits_of(step, step.sampled[..., None])[..., 0]
        lead = np.minimum(step.confidence * np.exp(leading - drawn), 1.0)  # probability of the likeliest token
        _remember(step, lead**boost, decay)
        tokens, credit = _slots(step)
        ratios = np.exp(_logits_of(step, tokens) - leading[..., None])  # to the likeliest's probability; [n, W, SLOTS]
        ratios[credit == 0] = 0
        factors = (1 + credit) ** alpha[..., None]
        total = 1 + (lead[..., None] * ratios * (factors - 1)).sum(-1)
        taken, odds = _take(step, tokens, ratios * factors, np.exp(drawn - leading), temperature)
        confidence = np.where(step.masked, lead * odds / total, -np.inf)
        commits = step.masked & (confidence >= np.minimum(confidence.max(1, keepdims=True) - _MARGIN, threshold))
        return np.where(commits, taken, step.tokens), np.zeros(len(commits), np.bool_)


def _logits_of(step: SamplerStep, tokens: Int64) -> Float64:
    """[n, W, K] tokens -> their raw logits."""
    assert step.logits is not None
    return np.take_along_axis(step.logits, tokens, 2).astype(np.float64)


def _slots(step: SamplerStep) -> tuple[Int64, Float64]:
    """Tokens and credit [n, W, SLOTS]; empty slots hold token 0 without credit."""
    return np.maximum(step.memory[..., :SLOTS].astype(np.int64) - 1, 0), step.memory[..., SLOTS:].astype(np.float64)


def _remember(step: SamplerStep, gain: Float64, decay: Float64) -> None:
    """Lets all credit fade, and gives the likeliest token of every masked position its gain [n, W]."""
    names, credit = step.memory[..., :SLOTS], step.memory[..., SLOTS:]  # views
    credit *= decay[..., None]
    known = names == step.likeliest[..., None] + 1
    slot = np.where(known.any(-1), known.argmax(-1), credit.argmin(-1))[..., None]
    before = np.where(known.any(-1), np.take_along_axis(credit, slot, 2)[..., 0], 0)
    masked = step.masked
    new_name = np.where(masked, step.likeliest + 1, np.take_along_axis(names, slot, 2)[..., 0])
    new_credit = np.where(masked, before + gain, np.take_along_axis(credit, slot, 2)[..., 0])
    np.put_along_axis(names, slot, new_name[..., None].astype(np.float32), 2)
    np.put_along_axis(credit, slot, new_credit[..., None].astype(np.float32), 2)


def _take(step: SamplerStep, tokens: Int64, odds: Float64, drawn_odds: Float64, temperature: Float64) -> tuple[Int64, Float64]:
    """Which token every position takes, and its odds with credit; `odds` [n, W, SLOTS], `drawn_odds` [n, W], to the likeliest token's.

    Credit only raises logits, so whatever wins with it is the drawn token or one that has some. The lowest id wins ties.
    """
    known = (tokens == step.sampled[..., None]) & (odds > 0)
    drawn_odds = np.where(known.any(-1), (odds * known).sum(-1), drawn_odds)
    tokens = np.concatenate([tokens, step.sampled[..., None]], axis=-1)
    odds = np.concatenate([odds, drawn_odds[..., None]], axis=-1)
    scores = np.log(odds, out=np.full(odds.shape, -np.inf), where=odds > 0)
    if temperature.any():
        noise = -np.log(-np.log(uniform_of(step.seed, step.step + 1, step.positions, tokens)))
        scores = scores + temperature[..., None] * noise
    best = scores == scores.max(-1, keepdims=True)
    taken = np.where(best, tokens, np.iinfo(np.int64).max).min(-1)
    return taken, np.where(tokens == taken[..., None], odds, 0).max(-1)
