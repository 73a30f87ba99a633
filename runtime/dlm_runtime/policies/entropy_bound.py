"""Random canvases that settle (DiffusionGemma): positions are accepted in order of entropy, the others are thrown again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from dlm_kernels.unmask.draws import uniform
from numpy.typing import NDArray

from dlm_runtime.policies.sampler import Bools, Int64, SamplerStep

_NUMBERS = 5


@dataclass(frozen=True, slots=True)
class EntropyBound:
    """Accepts drawn tokens in order of entropy while those before them sum up to at most `entropy_bound` nats; the rest becomes random.

    A canvas is through when its likeliest tokens were the same in `stability_threshold` passes before and their mean entropy is below
    `confidence_threshold`, or after `max_steps` passes; then it is the likeliest tokens, whatever was accepted. With either threshold
    at None only `max_steps` ends it.
    """

    entropy_bound: float
    stability_threshold: int | None
    confidence_threshold: float | None
    max_steps: int
    vocab_size: int

    wants_logits: ClassVar[bool] = False
    memory_width: ClassVar[int] = 2  # the likeliest token of the pass before plus 1; how many passes in a row it was the same

    @property
    def parameters(self) -> tuple[float, ...]:
        """As `choose` reads them."""
        never = self.stability_threshold is None or self.confidence_threshold is None
        stability = np.inf if never else float(self.stability_threshold or 0)
        confidence = 0.0 if never else self.confidence_threshold or 0.0
        return (self.entropy_bound, stability, confidence, float(self.max_steps), float(self.vocab_size))

    @staticmethod
    def choose(step: SamplerStep, mask_token_id: int) -> tuple[Int64, Bools]:
        """The window's tokens [n, W], and which rows are through [n]."""
        vocab_size = int(step.parameters[0, 4])
        return settle(step, random_tokens(step.seed, step.step + 1, step.positions, vocab_size))


@dataclass(frozen=True, slots=True)
class ReplayedNoise:
    """An entropy bound whose random tokens are given, a canvas for every pass: for following a recorded run."""

    rule: EntropyBound
    canvases: tuple[tuple[int, ...], ...]

    wants_logits: ClassVar[bool] = False
    memory_width: ClassVar[int] = 2

    @property
    def parameters(self) -> tuple[float, ...]:
        """Those of the rule, then the canvases one after the other."""
        return (*self.rule.parameters, *(float(token_id) for canvas in self.canvases for token_id in canvas))

    @staticmethod
    def choose(step: SamplerStep, mask_token_id: int) -> tuple[Int64, Bools]:
        """As `EntropyBound.choose`."""
        rows, width = step.tokens.shape
        canvases = step.parameters[:, _NUMBERS:].astype(np.int64).reshape(rows, -1, width)
        return settle(step, canvases[np.arange(rows), np.minimum(step.step, canvases.shape[1] - 1)])


def settle(step: SamplerStep, noise: Int64) -> tuple[Int64, Bools]:
    """One pass, given the tokens [n, W] that positions which are not accepted become."""
    bound, stability, confidence, max_steps = step.parameters.T[:4]
    order = np.argsort(np.where(step.inside, step.entropy, np.inf), axis=1, kind="stable")
    in_order = np.take_along_axis(np.where(step.inside, step.entropy, np.float32(0)), order, 1)
    accepted = np.zeros_like(step.inside)
    np.put_along_axis(accepted, order, np.cumsum(in_order, axis=1, dtype=np.float32) - in_order <= bound[:, None], 1)
    same = ((step.memory[..., 0] == step.likeliest + 1) | ~step.inside).all(1)
    step.memory[:, 0, 1] = np.where(same, step.memory[:, 0, 1] + 1, 0)
    step.memory[..., 0] = step.likeliest + 1
    mean_entropy = np.where(step.inside, step.entropy, 0).sum(1) / step.inside.sum(1)
    is_sure = (step.memory[:, 0, 1] >= stability) & (mean_entropy < confidence)
    done = is_sure | (step.step + 1 >= max_steps)
    return np.where(done[:, None], step.likeliest, np.where(accepted, step.sampled, noise)), done


def random_tokens(seed: Int64, counter: Int64, positions: Int64, vocab_size: int) -> Int64:
    """Any token with equal chances, [B], [B], [B, W] -> [B, W]; the draws are none of those that tokens are sampled with."""
    numbers: NDArray[np.float32] = uniform(seed, counter, positions, 1, vocab_size + 1)[..., 0]
    return np.minimum((numbers * vocab_size).astype(np.int64), vocab_size - 1)
