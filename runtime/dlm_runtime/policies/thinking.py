"""A limit on how long a model may think before it has to answer (Nemotron-Labs-Diffusion's `max_thinking_tokens`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ThinkingBudget:
    """After `tokens` new tokens without `end_token_id`, that token is put in. None is no limit."""

    tokens: int | None = None
    end_token_id: int | None = None

    def __post_init__(self) -> None:
        if (self.tokens is None) != (self.end_token_id is None):
            raise ValueError(f"{self.tokens=} and {self.end_token_id=} need each other: give both or neither")
        if self.tokens is not None and self.tokens < 0:
            raise ValueError(f"{self.tokens=} must be at least 0")

    @property
    def end(self) -> int:
        """The token that ends a thought. Raises ValueError where there is no limit."""
        if self.end_token_id is None:
            raise ValueError(f"{self.end_token_id=}: thoughts may go on for ever")
        return self.end_token_id

    @property
    def limits(self) -> bool:
        """Whether there is a limit at all."""
        return self.tokens is not None

    def place(self, written: NDArray[np.int64], length: int) -> int | None:
        """Where in the next `length` tokens the end of the thought belongs, given all new tokens before them; None: nowhere."""
        if self.tokens is None or len(written) + length <= self.tokens or (written == self.end_token_id).any():
            return None
        return max(0, self.tokens - len(written))


NO_BUDGET = ThinkingBudget()
