"""What the rewrites did to a graph, for whoever exported it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Miss:
    """Why `count` places stayed as they were; `first` is the node that ends the first of them."""

    reason: str
    count: int
    first: str


@dataclass(frozen=True)
class RewriteOutcome:
    """One rewrite: how often it was applied, and what it left alone."""

    name: str
    fired: int
    misses: tuple[Miss, ...] = ()

    def sentence(self) -> str:
        """The outcome in one line."""
        parts = [f"{self.name}: {self.fired} {'place' if self.fired == 1 else 'places'} rewritten"]
        parts += [f"{miss.count} left ({miss.reason}; first {miss.first})" for miss in self.misses]
        return ", ".join(parts)


@dataclass(frozen=True)
class RewriteReport:
    """The outcome of every rewrite that the target asks for, in the order in which they ran."""

    outcomes: tuple[RewriteOutcome, ...] = ()

    def fired(self, name: str) -> int:
        """How often a rewrite was applied; 0 for one that the target does not ask for."""
        return sum(outcome.fired for outcome in self.outcomes if outcome.name == name)

    def sentences(self) -> tuple[str, ...]:
        """One line for every rewrite that found a candidate."""
        return tuple(outcome.sentence() for outcome in self.outcomes if outcome.fired or outcome.misses)

    def to_json(self) -> list[dict[str, Any]]:
        """The report as plain values."""
        return [
            {
                "name": outcome.name,
                "fired": outcome.fired,
                "missed": [{"reason": miss.reason, "count": miss.count, "first": miss.first} for miss in outcome.misses],
            }
            for outcome in self.outcomes
        ]


def grouped(misses: Iterable[tuple[str, str]]) -> tuple[Miss, ...]:
    """(node, reason) pairs, those of one reason together, in the order in which the reasons came up."""
    pairs = list(misses)
    counts = Counter(reason for _, reason in pairs)
    first = {reason: node for node, reason in reversed(pairs)}
    return tuple(Miss(reason, count, first[reason]) for reason, count in counts.items())
