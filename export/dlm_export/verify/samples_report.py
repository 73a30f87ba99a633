"""What came of running recorded sampler runs again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from typing import Any, Literal

Ids = list[int]
Way = Literal["alone", "mixed"]


@dataclass(frozen=True)
class Difference:
    """The first thing that differs. Without `row` it is about the whole run; `number` is a canvas of a trajectory.

    `expected` and `found` are token ids, None where one of them is shorter, or numbers of forward passes.
    """

    what: Literal["tokens", "trajectory", "forwards", "error"]
    expected: int | None = None
    found: int | None = None
    row: int | None = None
    index: int | None = None
    number: int | None = None
    problem: str | None = None

    def __str__(self) -> str:
        if self.what == "error":
            return self.problem or "error"
        if self.what == "forwards":
            return f"{self.expected} forward passes expected, got {self.found}"
        place = f"row {self.row}, index {self.index}"
        if self.number is not None:
            place = f"canvas {self.number} of row {self.row}, index {self.index}"
        return f"{place}: expected {self.expected}, got {self.found}"


@dataclass(frozen=True)
class RunResult:
    """One recorded run, run by itself and among all others of its file. None: equal. `refused` says why it could not be run."""

    id: str
    sampler: str
    alone: Difference | None = None
    mixed: Difference | None = None
    refused: str | None = None
    unknown: bool = False  # the sampler

    @property
    def equal(self) -> bool:
        """Both ways, in tokens and in the number of forward passes."""
        return self.alone is None and self.mixed is None and self.refused is None

    def sentences(self) -> list[str]:
        """What differs, a line each."""
        if self.refused is not None:
            return [f"{self.id} ({self.sampler}): {self.refused}"]
        pairs: list[tuple[Way, Difference | None]] = [("alone", self.alone), ("mixed", self.mixed)]
        return [f"{self.id} ({self.sampler}), {way}: {difference}" for way, difference in pairs if difference is not None]


@dataclass(frozen=True)
class SamplesReport:
    """All runs of a file."""

    results: tuple[RunResult, ...] = field(default_factory=tuple)

    @property
    def equal(self) -> int:
        """How many runs came out as recorded."""
        return sum(result.equal for result in self.results)

    @property
    def different(self) -> int:
        """How many did not, those that could not be run among them."""
        return len(self.results) - self.equal

    @property
    def passed(self) -> bool:
        """Whether all did."""
        return self.different == 0

    @property
    def names_unknown_samplers(self) -> bool:
        """Whether a run's sampler is none that is known here."""
        return any(result.unknown for result in self.results)

    def sentences(self) -> list[str]:
        """A line per difference, and the sum."""
        lines = [sentence for result in self.results for sentence in result.sentences()]
        return [*lines, f"{self.equal} equal, {self.different} different"]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        runs = [asdict(result) | {"equal": result.equal} for result in self.results]
        return {"passed": self.passed, "equal": self.equal, "different": self.different, "runs": runs}


def first_difference(found: Sequence[Ids], expected: Sequence[Ids]) -> Difference | None:
    """Of two lists of rows of equal number."""
    for row, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        for index, (got, wanted) in enumerate(zip_longest(ours, theirs)):
            if got != wanted:
                return Difference("tokens", wanted, got, row, index)
    return None


def trajectory_difference(found: Sequence[Ids], expected: Sequence[Ids], row: int) -> Difference | None:
    """Of one row's canvases, of which equal neighbours count once: a batch goes on while other rows are not done."""
    theirs = without_repeats(expected)
    ours = without_repeats([*theirs[:1], *found])
    for number, (got, wanted) in enumerate(zip_longest(ours, theirs, fillvalue=[])):
        if (difference := first_difference([got], [wanted])) is not None:
            return Difference("trajectory", difference.expected, difference.found, row, difference.index, number)
    return None


def without_repeats(canvases: Sequence[Ids]) -> list[Ids]:
    """Each canvas that is not equal to the one before."""
    return [canvas for number, canvas in enumerate(canvases) if number == 0 or canvas != canvases[number - 1]]
