"""Samplers that run beside the step graph, against plain ones written from their published code: one row, one position at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from dlm_kernels.unmask.draws import gumbel_noise
from dlm_runtime.policies.credit import SLOTS, Credit
from dlm_runtime.policies.dilated import Dilated
from dlm_runtime.policies.hierarchy import Hierarchy
from dlm_runtime.policies.klass import Klass
from dlm_runtime.policies.remasking import Remasking
from dlm_runtime.policies.sampler import Sampler, SamplerStep
from dlm_runtime.policies.with_sampler import WithSampler
from plain_samplers import MASK, Plain, PlainCredit, PlainDilated, PlainHierarchy, PlainKlass, PlainRemasking

NAMES = ("hierarchy", "credit", "klass", "dus", "remdm")


KINDS: dict[str, tuple[list[Sampler], Callable[[Any, int], Plain]]] = {
    "hierarchy": (
        [Hierarchy(), Hierarchy(0.7, 0.2), Hierarchy(1.0, 0.0)],
        lambda one, seed: PlainHierarchy(one.threshold, one.low_threshold),
    ),
    "credit": (
        [Credit(), Credit(0.6), Credit(0.8, 2.0, 0.5, 0.9), Credit(0.5, temperature=0.7), Credit(0.9, 1.5, temperature=1.0)],
        lambda one, seed: PlainCredit(one.threshold, one.alpha, one.boost, one.decay, one.temperature, seed),
    ),
    "klass": (
        [Klass(), Klass(0.3, 0.1, 1), Klass(0.4, 0.05, 2), Klass(0.2, 0.2, 3)],
        lambda one, seed: PlainKlass(one.confidence, one.divergence, one.history, quota=2),
    ),
    "dus": ([Dilated(), Dilated(3), Dilated(2, 0.5)], lambda one, seed: PlainDilated(one.base, one.least_confidence)),
    "remdm": (
        [Remasking(9), Remasking(9, 0.3), Remasking(9, 1.0), Remasking(9, 0.2, 7)],
        lambda one, seed: PlainRemasking(9, one.eta, one.steps, seed),
    ),
}
WIDTHS = (1, 2, 5, 8, 11, 16)
VOCAB = 9


def logits_of_passes(rng: np.random.Generator, rows: int, width: int, passes: int) -> np.ndarray:
    """Logits that wander less and less, so that some positions become sure and steady. The mask token is never likely."""
    steps = rng.normal(size=(passes, rows, width, VOCAB)) * 0.5 ** np.minimum(np.arange(passes), 6)[:, None, None, None]
    logits = np.cumsum(steps * rng.choice([0.3, 3.0], size=(rows, width, 1)), axis=0).astype(np.float32)
    logits[..., MASK] = -30
    return logits


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(4))
def test_rows_of_any_width_together_equal_the_published_rule_alone(name: str, seed: int) -> None:
    samplers, plain_of = KINDS[name]
    rng = np.random.default_rng(seed)
    kinds = [samplers[int(i)] for i in rng.integers(len(samplers), size=24)]
    size = np.array([rng.choice(WIDTHS) for _ in kinds])
    rows, width, passes = len(kinds), int(size.max()), 20
    logits = logits_of_passes(rng, rows, width, passes)
    inside = np.arange(width) < size[:, None]
    tokens = np.where(inside, MASK, 7)
    if name in ("hierarchy", "credit"):  # the others count from a block of masks
        tokens[inside & (rng.random((rows, width)) < 0.3)] = 3
    blocks = [tokens[row, :stop].tolist() for row, stop in enumerate(size)]
    plains = [plain_of(kind, 100 + row) for row, kind in enumerate(kinds)]
    memory = np.zeros((rows, width, kinds[0].memory_width), np.float32)
    over = np.zeros(rows, np.bool_)
    positions = 40 + np.arange(rows)[:, None] * 3 + np.arange(width)
    previous = np.zeros_like(logits[0])
    for number in range(passes):
        seen = SamplerStep(
            parameters=np.array([kind.parameters for kind in kinds], np.float32),
            tokens=tokens.copy(),
            masked=(tokens == MASK) & inside,
            inside=inside,
            quota=np.full(rows, 2),
            step=np.full(rows, number),
            seed=100 + np.arange(rows),
            positions=positions,
            memory=memory,
            logits=logits[number],
            previous_logits=previous,
            **measured(kinds, logits[number], number, positions),
        )
        tokens, done = type(kinds[0]).choose(seen, MASK)
        previous = logits[number]
        for row, plain in enumerate(plains):
            if over[row]:
                continue
            enough = plain.step(number, logits[number, row, : size[row]], blocks[row], positions[row].tolist())
            assert (tokens[row, : size[row]].tolist(), bool(done[row])) == (blocks[row], enough), (row, number, kinds[row])
            over[row] = enough or (MASK not in blocks[row] and name != "remdm")
        assert (tokens[~inside] == 7).all()
    assert over.all()


def measured(kinds: list[Any], logits: np.ndarray, number: int, positions: np.ndarray) -> dict[str, np.ndarray]:
    """What the step graph says of logits [n, W, V]."""
    temperature = np.array([getattr(kind, "temperature", 0.0) for kind in kinds], np.float32)
    noise = gumbel_noise(100 + np.arange(len(kinds)), np.full(len(kinds), number + 1), positions, VOCAB)
    odds = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum(-1, keepdims=True)
    sampled = (logits + temperature[:, None, None] * noise).argmax(-1)
    return {
        "sampled": sampled,
        "likeliest": logits.argmax(-1),
        "confidence": np.take_along_axis(odds, sampled[..., None], -1)[..., 0].astype(np.float32),
        "entropy": -(odds * np.log(odds)).sum(-1).astype(np.float32),
    }


@pytest.mark.parametrize("size", range(1, 70))
@pytest.mark.parametrize("base", [2, 3, 4])
def test_dilated_groups_cover_a_block_in_logarithmically_many_passes(size: int, base: int) -> None:
    levels = PlainDilated(base, 0.0).levels(size)
    assert sorted(i for level in levels for i in level) == list(range(size))
    assert len(levels) <= 1 + math.ceil(math.log(size, base))


def test_a_ninth_token_displaces_the_credit_of_the_least() -> None:
    memory = np.zeros((1, 1, 2 * SLOTS), np.float32)
    for number in range(SLOTS + 1):
        logits = np.zeros((1, 1, 12), np.float32)
        logits[0, 0, number] = 1.0
        sure = np.array([[math.e / (math.e + 11)]], np.float32)
        whole = {"parameters": np.array([Credit().parameters], np.float32), "tokens": np.array([[99]]), "masked": np.ones((1, 1), np.bool_)}
        drawn = {"sampled": np.array([[number]]), "likeliest": np.array([[number]]), "confidence": sure, "entropy": sure, "logits": logits}
        rest = {name: np.zeros(1, np.int64) for name in ("quota", "step", "seed")} | {"positions": np.zeros((1, 1), np.int64)}
        Credit.choose(SamplerStep(**whole, **drawn, **rest, inside=whole["masked"], memory=memory, previous_logits=None), 99)
    assert sorted(memory[0, 0, :SLOTS].tolist()) == list(range(2, SLOTS + 2))


WRONG: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    (Hierarchy, {"threshold": 1.5}, r"self.threshold=1.5 must be a probability"),
    (Hierarchy, {"low_threshold": -0.1}, r"self.low_threshold=-0.1 must be a probability"),
    (Credit, {"threshold": 2.0}, r"self.threshold=2.0 must be a probability"),
    (Credit, {"decay": 1.1}, r"self.decay=1.1 must be between 0 and 1"),
    (Credit, {"alpha": -1.0}, r"self.alpha=-1.0 must be at least 0"),
    (Klass, {"confidence": -1.0}, r"self.confidence=-1.0 must be a probability"),
    (Klass, {"divergence": -1.0}, r"self.divergence=-1.0 must be at least 0"),
    (Klass, {"history": 0}, r"self.history=0 must be at least 1"),
    (Dilated, {"base": 1}, r"self.base=1 must be at least 2"),
    (Dilated, {"least_confidence": 2.0}, r"self.least_confidence=2.0 must be a probability"),
    (Remasking, {"vocab_size": 9, "eta": 1.5}, r"self.eta=1.5 must be a probability"),
    (Remasking, {"vocab_size": 9, "steps": -1}, r"self.steps=-1 must be at least 1"),
    (WithSampler, {"loop": None, "sampler_for": None, "passes": -1}, r"self.passes=-1 must be at least 1"),
]


@pytest.mark.parametrize(("kind", "numbers", "said"), WRONG)
def test_numbers_that_make_no_sense_are_refused(kind: Callable[..., Any], numbers: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind(**numbers)
