"""A measured quantity, for error messages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Amount:
    """How much of something was given; reads `2500 characters`."""

    count: int
    unit: str

    def __repr__(self) -> str:
        return f"{self.count} {self.unit}"
