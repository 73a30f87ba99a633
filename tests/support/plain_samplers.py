"""Samplers written from their published code, for one row and one position at a time: what the vectorised ones are tested against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from dlm_kernels.unmask.draws import gumbel_noise, uniform
from dlm_runtime.policies.credit import Credit
from dlm_runtime.policies.dilated import Dilated
from dlm_runtime.policies.hierarchy import Hierarchy
from dlm_runtime.policies.klass import Klass

MASK = 1


class Plain(Protocol):
    """A published sampler for one row and one block: told the logits of every position, it fills the block in."""

    def step(self, number: int, logits: np.ndarray, block: list[int], positions: Sequence[int]) -> bool:
        """Pass `number` from 0, logits [W, V] with -inf for tokens that are banned. Writes `block`. Whether it has had enough."""
        ...


def softmax(logits: np.ndarray, temperature: float = 1.0) -> list[float]:
    highest = max(logits)
    weights = [math.exp((one - highest) / temperature) for one in logits]
    return [weight / sum(weights) for weight in weights]


def likeliest(logits: np.ndarray) -> tuple[int, float]:
    odds = softmax(logits)
    token_id = max(range(len(odds)), key=lambda one: odds[one])
    return token_id, odds[token_id]


def divergence(odds: list[float], before: list[float]) -> float:
    """As KLASS computes it."""
    return sum(p * (math.log(p + 1e-12) - math.log(q + 1e-12)) for p, q in zip(odds, before, strict=True))


class PlainHierarchy:
    """dInfer's `HierarchyDecoder.get_transfer_index`."""

    def __init__(self, threshold: float, low_threshold: float, mask: int = MASK) -> None:
        self.threshold, self.low, self.mask = threshold, low_threshold, mask

    def step(self, number: int, logits: np.ndarray, block: list[int], positions: Sequence[int]) -> bool:
        guesses = [likeliest(one) for one in logits]
        masked = [i for i, token_id in enumerate(block) if token_id == self.mask]
        runs: list[list[int]] = []
        for i in masked:
            if i - 1 in masked:
                runs[-1].append(i)
            else:
                runs.append([i])
        taken = {i for i in masked if guesses[i][1] > self.threshold}
        for run in runs:
            best = max(guesses[i][1] for i in run)
            taken |= {i for i in run if guesses[i][1] == best and best > self.low}
        if masked:
            taken.add(max(masked, key=lambda i: (guesses[i][1], -i)))
        for i in taken:
            block[i] = guesses[i][0]
        return False


class PlainCredit:
    """dInfer's `_apply_credit_fusion` with its whole table, and `get_transfer_index_threshold`."""

    def __init__(
        self, threshold: float, alpha: float, boost: float, decay: float, temperature: float = 0.0, seed: int = 0, mask: int = MASK
    ) -> None:
        self.threshold, self.alpha, self.boost, self.decay, self.mask = threshold, alpha, boost, decay, mask
        self.temperature, self.seed = temperature, seed
        self.table: list[dict[int, float]] = []

    def step(self, number: int, logits: np.ndarray, block: list[int], positions: Sequence[int]) -> bool:
        self.table = self.table or [{} for _ in block]
        guesses: dict[int, tuple[int, float]] = {}
        for i, token_id in enumerate(block):
            self.table[i] = {known: value * self.decay for known, value in self.table[i].items()}
            if token_id != self.mask:
                continue
            leader, probability = likeliest(logits[i])
            self.table[i][leader] = self.table[i].get(leader, 0.0) + probability**self.boost
            fused = [one + self.alpha * math.log(self.table[i].get(v, 0.0) + 1) for v, one in enumerate(logits[i])]
            place = (np.array([self.seed]), np.array([number + 1]), np.array([[positions[i]]]))
            noise = gumbel_noise(*place, len(fused))[0, 0] if self.temperature else np.zeros(len(fused))
            scores = [one + self.temperature * noise[v] for v, one in enumerate(fused)]
            drawn = max(range(len(scores)), key=lambda v: scores[v])
            guesses[i] = (drawn, softmax(np.array(fused))[drawn])
        bar = min(max((sure for _, sure in guesses.values()), default=0.0) - 1e-5, self.threshold)
        for i, (token_id, sure) in guesses.items():
            if sure >= bar:
                block[i] = token_id
        return False


class PlainKlass:
    """KLASS's `stable_confident_decode`, its history beginning with the block."""

    def __init__(self, confidence: float, divergence: float, history: int, quota: int = 1, mask: int = MASK) -> None:
        self.confidence, self.divergence, self.history, self.quota, self.mask = confidence, divergence, history, quota, mask
        self.before: list[list[float]] = []
        self.changes: list[list[float]] = []

    def step(self, number: int, logits: np.ndarray, block: list[int], positions: Sequence[int], raw: np.ndarray | None = None) -> bool:
        odds = [softmax(one) for one in (logits if raw is None else raw)]
        guesses = [likeliest(one) for one in logits]
        if self.before:
            self.changes.append([divergence(*pair) for pair in zip(odds, self.before, strict=True)])
        self.before = odds
        latest = self.changes[-self.history :]
        masked = [i for i, token_id in enumerate(block) if token_id == self.mask]
        ready = [
            i
            for i in masked
            if guesses[i][1] > self.confidence and len(latest) == self.history and all(change[i] < self.divergence for change in latest)
        ]
        if not ready:
            ready = sorted(masked, key=lambda i: (-guesses[i][1], i))[: self.quota]
        for i in ready:
            block[i] = guesses[i][0]
        return False


class PlainDilated:
    """DUS's `dilated_unmask_levels` and `merge_last_level`; positions below the least confidence wait for the next level."""

    def __init__(self, base: int, least: float, mask: int = MASK) -> None:
        self.base, self.least, self.mask = base, least, mask

    def levels(self, size: int) -> list[list[int]]:
        levels: list[list[int]] = []
        stride = size // self.base
        while stride >= 1:
            levels.append([i for i in range(0, size, stride) if not any(i in level for level in levels)])
            stride //= self.base
        if rest := [i for i in range(size) if not any(i in level for level in levels)]:
            levels.append(rest)
        if len(levels) >= 2 and len(levels[-1]) < len(levels[-2]):
            last = levels.pop()
            levels[-1] += last
        return levels

    def step(self, number: int, logits: np.ndarray, block: list[int], positions: Sequence[int]) -> bool:
        levels = self.levels(len(block))
        for i in [one for level in levels[: number + 1] for one in level]:
            token_id, sure = likeliest(logits[i])
            if block[i] == self.mask and (number >= len(levels) - 1 or sure >= self.least):
                block[i] = token_id
        return False


class PlainRemasking:
    """ReMDM's `remdm-cap` step on the linear schedule."""

    def __init__(self, vocab_size: int, eta: float, steps: int, seed: int, mask: int = MASK) -> None:
        self.vocab_size, self.eta, self.steps, self.seed, self.mask = vocab_size, eta, steps, seed, mask

    def step(self, number: int, logits: np.ndarray, block: list[int], positions: Sequence[int]) -> bool:
        total = self.steps or len(block)
        alpha_t, alpha_s = number / total, (number + 1) / total
        sigma = min(self.eta, (1 - alpha_s) / alpha_t) if alpha_t > 0 else self.eta
        fills = (alpha_s - (1 - sigma) * alpha_t) / (1 - alpha_t)
        for i, token_id in enumerate(block):
            place = (np.array([self.seed]), np.array([number + 1]), np.array([[positions[i]]]))
            chance = float(uniform(*place, 1, self.vocab_size + 2)[0, 0, 0])
            if token_id == self.mask and (chance < fills or number == total - 1):
                block[i] = likeliest(logits[i])[0]
            elif token_id != self.mask and chance < sigma:
                block[i] = self.mask
        return number == total - 1


def plain_for(sampler: Any, mask: int, seed: int) -> Plain:
    """The plain form of a sampler with its numbers."""
    match sampler:
        case Hierarchy():
            return PlainHierarchy(sampler.threshold, sampler.low_threshold, mask)
        case Credit():
            return PlainCredit(sampler.threshold, sampler.alpha, sampler.boost, sampler.decay, mask=mask)
        case Klass():
            return PlainKlass(sampler.confidence, sampler.divergence, sampler.history, mask=mask)
        case Dilated():
            return PlainDilated(sampler.base, sampler.least_confidence, mask)
    return PlainRemasking(sampler.vocab_size, sampler.eta, sampler.steps, seed, mask)
