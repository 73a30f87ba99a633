"""When S2D2 spends a pass on verifying what it drafted: its four published rules and the estimates they rest on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

VerifyRule = Literal["mask_span_length", "score_threshold", "score_hysteresis", "contextual_bandit_ucb"]
Estimator = Literal[
    "hard_margin_threshold",
    "hard_entropy_threshold",
    "soft_confidence_power",
    "soft_clipped_linear_margin",
    "soft_entropy_negexp",
    "soft_renyi_2_entropy",
]
ScoreType = Literal["difference_dynamic", "difference_static"]
RULES: tuple[VerifyRule, ...] = ("mask_span_length", "score_threshold", "score_hysteresis", "contextual_bandit_ucb")
ESTIMATORS: tuple[Estimator, ...] = (
    "hard_margin_threshold",
    "hard_entropy_threshold",
    "soft_confidence_power",
    "soft_clipped_linear_margin",
    "soft_entropy_negexp",
    "soft_renyi_2_entropy",
)
SCORE_TYPES: tuple[ScoreType, ...] = ("difference_dynamic", "difference_static")


@dataclass(frozen=True, slots=True)
class Verification:
    """The numbers of all four rules, with their published names and defaults.

    `mask_span_length` verifies where the first run of masks is at least `min_span_length` long (`legacy`: or too few positions are sure).
    The score rules weigh how many tokens a verification should accept, by `estimator`, against `penalty_coef` times the number of sure
    positions ("difference_dynamic") or times one ("difference_static"). `contextual_bandit_ucb` learns within a line which of the two pays
    in situations of a kind; its numbers of bins say how finely it tells them apart. Raises ValueError naming what is out of range.
    """

    rule: VerifyRule = "mask_span_length"
    min_span_length: int = 1
    legacy: bool = False
    score_threshold: float = -1.0
    hysteresis_on: float = 0.0
    hysteresis_off: float = -1.0
    score_type: ScoreType = "difference_dynamic"
    penalty_coef: float = 2.0
    estimator: Estimator = "hard_margin_threshold"
    margin_threshold: float = 0.05
    confidence_power: float = 1.0
    entropy_threshold: float = 0.5
    margin_coef: float = 1.0
    entropy_temperature: float = 1.0
    ucb_beta: float = 1.0
    ucb_span_bins: int = 2
    ucb_progress_bins: int = 2
    ucb_entropy_bins: int = 2
    ucb_entropy_of: Literal["span", "masked"] = "span"

    def __post_init__(self) -> None:
        choices = {"rule": RULES, "estimator": ESTIMATORS, "score_type": SCORE_TYPES, "ucb_entropy_of": ("span", "masked")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r} is not one of {', '.join(known)}")
        if self.rule == "score_hysteresis" and not self.hysteresis_on > self.hysteresis_off:
            raise ValueError(f"{self.hysteresis_on=} must be above {self.hysteresis_off=}")
        if min(self.ucb_span_bins, self.ucb_progress_bins, self.ucb_entropy_bins) < 1:
            raise ValueError(f"{self.ucb_span_bins=}, {self.ucb_progress_bins=} and {self.ucb_entropy_bins=} must be at least 1")


@dataclass(frozen=True, slots=True)
class Drafted:
    """A draft pass over a block of W positions: what is masked, how sure the drafts are, what they come from, the first run of masks."""

    masked: Bools  # [W]
    confidence: Float32  # [W]
    distributions: Float32  # [W, V]
    span: Sequence[int]
    filled_in: int  # positions of the block filled in so far

    def sure(self, threshold: float) -> int:
        """How many masked positions are surer than that."""
        return int((self.masked & (self.confidence > np.float32(threshold))).sum())


@dataclass(slots=True)
class Judge:
    """One line's decisions, which hysteresis and bandit remember."""

    numbers: Verification
    confidence_threshold: float
    on: bool = False
    decisions: int = 0
    chosen: tuple[int, int] | None = None  # action and kind of situation of the last decision
    tries: dict[tuple[int, int], int] = field(default_factory=dict)
    rewards: dict[tuple[int, int], float] = field(default_factory=dict)

    def verifies(self, draft: Drafted) -> bool:
        """Whether this draft is worth a pass."""
        numbers = self.numbers
        match numbers.rule:
            case "mask_span_length":
                if len(draft.span) >= numbers.min_span_length:
                    return True
                enough = min(numbers.min_span_length, int(draft.masked.sum()))
                return numbers.legacy and draft.sure(self.confidence_threshold) < enough
            case "score_threshold":
                return not self._score(draft) < numbers.score_threshold
            case "score_hysteresis":
                score = self._score(draft)
                self.on = not score < numbers.hysteresis_off if self.on else score > numbers.hysteresis_on
                return self.on
            case "contextual_bandit_ucb":
                return self._bandit(draft)

    def learn(self, decoded: int, verified: bool) -> None:
        """What the last decision came to: tokens per pass."""
        if self.chosen is not None:
            self.tries[self.chosen] = self.tries.get(self.chosen, 0) + 1
            self.rewards[self.chosen] = self.rewards.get(self.chosen, 0.0) + decoded / (2.0 if verified else 1.0)

    def _score(self, draft: Drafted) -> float:
        span = list(draft.span)
        chances = acceptance_chances(self.numbers, draft.distributions[span], draft.confidence[span].clip(0, 1))
        expected = float(np.cumprod(chances.clip(0, 1)).sum())
        cost = draft.sure(self.confidence_threshold) if self.numbers.score_type == "difference_dynamic" else 1
        return expected - self.numbers.penalty_coef * cost

    def _bandit(self, draft: Drafted) -> bool:
        numbers, size = self.numbers, len(draft.masked)
        self.decisions += 1
        looked_at = draft.distributions[list(draft.span) if numbers.ucb_entropy_of == "span" else draft.masked]
        entropy = float(normalized_entropy(looked_at).mean())
        kind = bin_of(len(draft.span), 1.0, float(size), numbers.ucb_span_bins)
        kind = kind * numbers.ucb_progress_bins + bin_of(draft.filled_in / size, 0.0, 1.0, numbers.ucb_progress_bins)
        kind = kind * numbers.ucb_entropy_bins + bin_of(entropy, 0.0, 1.0, numbers.ucb_entropy_bins)
        verify = self._promise(1, kind) >= self._promise(0, kind)
        self.chosen = (int(verify), kind)
        return verify

    def _promise(self, action: int, kind: int) -> float:
        """Upper confidence bound of an action's tokens per pass."""
        tries = self.tries.get((action, kind), 0)
        if not tries:
            return math.inf
        return self.rewards[action, kind] / tries + self.numbers.ucb_beta * math.sqrt(math.log(self.decisions) / tries)


def acceptance_chances(numbers: Verification, distributions: Float32, confidence: Float32) -> Float32:
    """Estimates of how likely each drafted token of a span is to be accepted, [S, V] and [S] -> [S]."""
    match numbers.estimator:
        case "hard_margin_threshold":
            return (margins(distributions) > np.float32(numbers.margin_threshold)).astype(np.float32)
        case "hard_entropy_threshold":
            return (normalized_entropy(distributions) < np.float32(numbers.entropy_threshold)).astype(np.float32)
        case "soft_confidence_power":
            return confidence ** np.float32(numbers.confidence_power)
        case "soft_clipped_linear_margin":
            return np.float32(numbers.margin_coef) * margins(distributions)
        case "soft_entropy_negexp":
            return np.exp(-np.float32(numbers.entropy_temperature) * normalized_entropy(distributions))
        case "soft_renyi_2_entropy":
            return (distributions**2).sum(-1)


def margins(distributions: Float32) -> Float32:
    """How much likelier the likeliest token is than the next, [S, V] -> [S]."""
    top = np.sort(distributions, axis=-1)[:, -2:]
    return top[:, -1] - top[:, 0] if top.shape[1] == 2 else top[:, 0]


def normalized_entropy(distributions: Float32) -> Float32:
    """Entropy as a share of the largest possible one, [S, V] -> [S]."""
    vocab_size = distributions.shape[-1]
    if vocab_size == 1:
        return np.zeros(len(distributions), np.float32)
    entropy = -(distributions * np.log(np.maximum(distributions, np.float32(1e-12)))).sum(-1)
    return entropy / np.log(np.float32(vocab_size))


def bin_of(value: float, least: float, most: float, bins: int) -> int:
    """Which of `bins` equal parts of [least, most] a number lies in."""
    if bins <= 1 or most <= least:
        return 0
    share = (min(max(value, least), most) - least) / (most - least)
    return min(bins - 1, max(0, int(share * bins)))
