"""Shaping and decision together: draws follow softmax(z / T) over what the filters leave. Seeds are counted, so nothing flickers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from dlm_kernels.unmask import ShapeInputs, UnmaskInputs, UnmaskOutputs

LOGITS = np.array([0.0, 1.0, -1.0, 2.0, 0.5, -0.5, 1.5], np.float32)
ROWS, WINDOW, VOCAB = 128, 32, len(LOGITS)
BOUND = {2: 13.8, 3: 16.3, 4: 18.5, 5: 20.5, 6: 22.5}  # chi-square that is exceeded once in 1000, by degrees of freedom
Draw = Callable[[ShapeInputs, UnmaskInputs], UnmaskOutputs]


def shaping(temperature: float, *, top_k: int = 0, top_p: float = 1.0) -> ShapeInputs:
    return ShapeInputs(
        logits=np.broadcast_to(LOGITS, (ROWS, WINDOW, VOCAB)).copy(),
        allow_rows=np.zeros((ROWS, WINDOW), np.int64),
        allow_table=np.zeros((1, VOCAB), np.float32),
        temperature=np.full(ROWS, temperature, np.float32),
        scale=np.ones(ROWS, np.float32),
        sample_top_k=np.full(ROWS, top_k),
        sample_top_p=np.full(ROWS, top_p, np.float32),
        repetition_penalty=np.ones(ROWS, np.float32),
        recent_ids=np.zeros((ROWS, 0), np.int64),
        guidance=np.zeros(ROWS, np.float32),
        guidance_rows=np.arange(ROWS),
    )


def decision(shaped: ShapeInputs) -> UnmaskInputs:
    return UnmaskInputs(
        logits=shaped.logits,
        tokens=np.full((ROWS, WINDOW), 5),
        live=np.ones((ROWS, WINDOW), bool),
        positions=np.broadcast_to(np.arange(WINDOW), (ROWS, WINDOW)).copy(),
        allow_rows=shaped.allow_rows,
        allow_table=shaped.allow_table,
        quota=np.ones(ROWS, np.int64),
        threshold=np.full(ROWS, 2, np.float32),
        factor=np.zeros(ROWS, np.float32),
        measure=np.zeros(ROWS, np.int64),
        temperature=shaped.temperature,
        rank_temperature=np.zeros(ROWS, np.float32),
        seed=np.arange(ROWS),
        step=np.zeros(ROWS, np.int64),
    )


def expected_shares(temperature: float, kept: int) -> np.ndarray:
    """softmax(z / T) over the `kept` likeliest tokens."""
    weights = np.exp(LOGITS.astype(np.float64) / temperature)
    weights[np.argsort(-LOGITS)[kept:]] = 0
    return weights / weights.sum()


def assert_follows(sampled_ids: np.ndarray, shares: np.ndarray) -> None:
    counts, possible = np.bincount(sampled_ids.ravel(), minlength=VOCAB), shares > 0
    assert counts[~possible].sum() == 0
    expected = shares[possible] * sampled_ids.size
    assert ((counts[possible] - expected) ** 2 / expected).sum() < BOUND[int(possible.sum()) - 1]


@pytest.mark.parametrize("temperature", [0.7, 1.3])
@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"), [(0, 1.0, (7, 7)), (3, 1.0, (3, 3)), (0, 0.8, (3, 4)), (5, 0.85, (3, 4))], ids=["all", "k", "p", "k and p"]
)
def test_draws_follow_the_distribution(shape_and_unmask: Draw, temperature: float, top_k: int, top_p: float, kept: tuple[int, int]) -> None:
    """4096 draws, one per seed and position, then one per step and position."""
    shaped = shaping(temperature, top_k=top_k, top_p=top_p)
    inputs = decision(shaped)
    shares = expected_shares(temperature, kept[temperature > 1])
    assert_follows(shape_and_unmask(shaped, inputs).sampled_ids, shares)
    by_step = replace(inputs, seed=np.full(ROWS, 7), step=np.arange(ROWS))
    assert_follows(shape_and_unmask(shaped, by_step).sampled_ids, shares)


def test_kept_tokens_of_the_distributions_above() -> None:
    """That `kept` is what the nucleus holds: the mass before the last kept one is at most top_p, and with it above."""
    for temperature, top_k, top_p, kept in ((0.7, 7, 0.8, 3), (1.3, 7, 0.8, 4), (0.7, 5, 0.85, 3), (1.3, 5, 0.85, 4)):
        mass = np.sort(expected_shares(temperature, top_k))[::-1]
        assert mass[: kept - 1].sum() <= top_p < mass[:kept].sum()


def test_confidence_is_that_of_the_shaped_distribution_at_temperature_one(shape_and_unmask: Draw) -> None:
    shaped = shaping(0.7, top_k=3)
    outputs = shape_and_unmask(shaped, decision(shaped))
    np.testing.assert_allclose(outputs.confidence, expected_shares(1.0, 3)[outputs.sampled_ids], rtol=0, atol=1e-6)
    assert np.isneginf(outputs.top_logprobs[..., 3:]).all()


def test_a_draw_does_not_depend_on_its_neighbours(shape_and_unmask: Draw) -> None:
    """Every row alone, and the rows in another order, with other rows' wishes around them."""
    shaped = replace(
        shaping(0.9),
        sample_top_k=np.arange(ROWS) % 4,
        sample_top_p=np.where(np.arange(ROWS) % 3, 1, 0.7).astype(np.float32),
        scale=np.where(np.arange(ROWS) % 5, 1, 0.5).astype(np.float32),
    )
    inputs = replace(decision(shaped), rank_temperature=(np.arange(ROWS) % 2).astype(np.float32), step=np.arange(ROWS) % 7)
    together = shape_and_unmask(shaped, inputs)
    for rows in ([3], [5], [6, 2, 9], list(range(ROWS))[::-1]):
        parts: list[dict[str, Any]] = [
            {item.name: getattr(part, item.name)[rows] for item in fields(part) if item.name != "allow_table"} for part in (shaped, inputs)
        ]
        own = replace(shaped, **parts[0] | {"guidance_rows": np.arange(len(rows))})
        found = shape_and_unmask(own, replace(inputs, **parts[1]))
        np.testing.assert_array_equal(found.sampled_ids, together.sampled_ids[rows])
        np.testing.assert_array_equal(found.canvas, together.canvas[rows])
