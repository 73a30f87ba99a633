"""Numbers for test cases that come out alike on every platform and numpy version: the op's own integer generator, and plain arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlm_kernels.unmask.draws import uniform

PEAK_SPREAD = 3.0  # nats around the point where one token is as likely as all others together
BODY_WIDTH = 8.0


class Numbers:
    """A stream of numbers; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self.seed, self.taken = seed, 0

    def uniform(self, *shape: int) -> NDArray[np.float32]:
        """Strictly between 0 and 1."""
        self.taken += 1
        place = np.zeros((1, 1), np.int64)
        return uniform(np.array([self.seed]), np.array([self.taken]), place, math.prod(shape)).reshape(shape)

    def integers(self, low: int, high: int, *shape: int) -> NDArray[np.int64]:
        """low <= n < high."""
        return low + (self.uniform(*shape).astype(np.float64) * (high - low)).astype(np.int64)

    def choose(self, chance: float, *shape: int) -> NDArray[np.bool_]:
        """True with that chance."""
        return self.uniform(*shape) < np.float32(chance)

    def logits(self, *shape: int) -> NDArray[np.float32]:
        """As of a language model: a wide body, and two tokens above it, so that confidences reach from doubt to certainty. [..., V]."""
        body = (self.uniform(*shape) + self.uniform(*shape) + self.uniform(*shape) - np.float32(1.5)) * np.float32(BODY_WIDTH)
        half = BODY_WIDTH / 2
        level = math.log(shape[-1] * (math.sinh(half) / half) ** 3)  # log of the body's expected sum of exponentials
        for _ in range(2):
            heights = np.float32(level - PEAK_SPREAD) + self.uniform(*shape[:-1], 1) * np.float32(2 * PEAK_SPREAD)
            np.put_along_axis(body, self.integers(0, shape[-1], *shape[:-1], 1), heights, -1)
        return body


def cycled(values: list[Any], length: int, kind: type) -> NDArray[Any]:
    """`values` over and over, up to `length` of them."""
    return np.resize(np.array(values, kind), length)
