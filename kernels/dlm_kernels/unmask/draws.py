"""Counter-based random numbers: (seed, step, position, token id) decide every draw and nothing else does.

The generator works on integers modulo the prime p = 2^31 - 1 with the permutation x -> x^5, absorbing one number per round. It is no
cipher; it is what every inference backend can compute alike from 64-bit multiply, divide and subtract.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PRIME = 2**31 - 1
SALT_1 = 1013904223
SALT_2 = 1597334677
UNIFORM_BITS = 23  # so that (n + 0.5) / 2^23 is exact in float32 and never 0 or 1

Ints = NDArray[np.int64]


def scramble(x: Ints) -> Ints:
    """x -> x^5 mod p, elementwise, for 0 <= x < 2^62."""
    x = x % PRIME
    square = x * x % PRIME
    return square * square % PRIME * x % PRIME


def position_keys(seed: Ints, step: Ints, positions: Ints) -> tuple[Ints, Ints]:
    """Two numbers below p per window position. `seed`, `step` [B], `positions` [B, W] -> [B, W] each.

    A seed may be any 64-bit number: its remainder and its quotient are absorbed one after the other.
    """
    quotient = (seed - np.fmod(seed, PRIME)) // PRIME
    low = np.fmod(seed, PRIME) + PRIME
    high = np.fmod(quotient, PRIME) + PRIME
    state = scramble(scramble(low + SALT_1) + high)
    state = scramble(state + step)
    state = scramble(state[:, None] + positions)
    first = scramble(state + SALT_2)
    return first, scramble(first + SALT_1)


def uniform(seed: Ints, step: Ints, positions: Ints, vocab_size: int, first_token: int = 0) -> NDArray[np.float32]:
    """Numbers strictly between 0 and 1, one per window position and token id, from `first_token` on. -> [B, W, V]."""
    return uniform_of(seed, step, positions, np.arange(first_token, first_token + vocab_size))


def uniform_of(seed: Ints, step: Ints, positions: Ints, token_ids: Ints) -> NDArray[np.float32]:
    """The numbers of `token_ids`, [K] or [B, W, K] -> [B, W, K]."""
    first, second = position_keys(seed, step, positions)
    state = scramble(first[..., None] + token_ids)
    state = scramble(state + second[..., None])
    steps = (state >> (31 - UNIFORM_BITS)).astype(np.float32)
    return (steps + np.float32(0.5)) * np.float32(2.0**-UNIFORM_BITS)


def gumbel_noise(seed: Ints, step: Ints, positions: Ints, vocab_size: int) -> NDArray[np.float32]:
    """Standard Gumbel noise: argmax(z / T + noise) is a draw from softmax(z / T). -> [B, W, V]."""
    return -np.log(-np.log(uniform(seed, step, positions, vocab_size)))


def rank_noise(seed: Ints, step: Ints, positions: Ints, vocab_size: int) -> NDArray[np.float32]:
    """Standard Gumbel noise for the ranking of positions: that of the token after the last. -> [B, W]."""
    return -np.log(-np.log(uniform(seed, step, positions, 1, first_token=vocab_size)))[..., 0]
