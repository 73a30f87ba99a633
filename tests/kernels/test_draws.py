"""The counter-based generator: uniform, and unrelated draws for related counters. Seeds are fixed, so nothing here can flicker."""

from __future__ import annotations

import numpy as np
import pytest
from dlm_kernels.unmask.draws import PRIME, gumbel_noise, position_keys, scramble, uniform

SEEDS = np.arange(8)
STEPS = np.zeros(8, np.int64)
POSITIONS = np.broadcast_to(np.arange(32), (8, 32)).copy()
VOCAB = 512


def chi_square_bound(degrees: int, z: float = 4.0) -> float:
    """Upper bound that a chi-square variable exceeds about once in 30,000 (Wilson and Hilferty's approximation)."""
    return degrees * (1 - 2 / (9 * degrees) + z * (2 / (9 * degrees)) ** 0.5) ** 3


def counters(name: str) -> np.ndarray:
    """Uniform numbers where one of the four counters runs and the others stand still. -> [n]."""
    many = np.arange(20_000)
    one = np.zeros(1, np.int64)
    if name == "seed":
        return uniform(many, np.zeros_like(many), np.full((len(many), 1), 3), 1).ravel()
    if name == "step":
        return uniform(np.full_like(many, 11), many, np.full((len(many), 1), 3), 1).ravel()
    if name == "position":
        return uniform(one, one, many[None], 1).ravel()
    return uniform(one, one, np.zeros((1, 1), np.int64), len(many)).ravel()


@pytest.mark.parametrize("name", ["seed", "step", "position", "token"])
def test_every_counter_alone_gives_uniform_unrelated_numbers(name: str) -> None:
    numbers = counters(name)
    counts = np.bincount((numbers * 64).astype(int), minlength=64)
    expected = len(numbers) / 64
    assert ((counts - expected) ** 2 / expected).sum() < chi_square_bound(63)
    for lag in (1, 2, 5, 32):
        pairs = np.bincount((numbers[:-lag] * 8).astype(int) * 8 + (numbers[lag:] * 8).astype(int), minlength=64)
        expected = (len(numbers) - lag) / 64
        assert ((pairs - expected) ** 2 / expected).sum() < chi_square_bound(63), f"{lag=}"


def test_whole_table_is_uniform() -> None:
    numbers = uniform(SEEDS, STEPS, POSITIONS, VOCAB).ravel()
    assert 0 < numbers.min() < numbers.max() < 1
    counts = np.bincount((numbers * 256).astype(int), minlength=256)
    expected = len(numbers) / 256
    assert ((counts - expected) ** 2 / expected).sum() < chi_square_bound(255)


def test_gumbel_noise_is_finite_and_has_the_right_mean_and_spread() -> None:
    noise = gumbel_noise(SEEDS, STEPS, POSITIONS, VOCAB)
    assert np.isfinite(noise).all()
    assert noise.mean() == pytest.approx(0.5772, abs=0.02)
    assert noise.std() == pytest.approx(np.pi / 6**0.5, abs=0.02)


def test_seeds_that_differ_beyond_32_bits_or_in_sign_differ() -> None:
    seeds = np.array([0, 1, -1, 2**31 - 1, 2**32, 2**62, -(2**62), 2**63 - 1, -(2**63)])
    first, second = position_keys(seeds, np.zeros(9, np.int64), np.zeros((9, 1), np.int64))
    assert len(np.unique(first)) == len(np.unique(second)) == 9
    assert ((first >= 0) & (first < PRIME)).all()


def test_scramble_is_the_fifth_power() -> None:
    for x in (0, 1, 2, 3, PRIME - 1, PRIME, 123_456_789, 2**61):
        assert scramble(np.array(x)) == pow(x, 5, PRIME)
