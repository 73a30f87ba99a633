"""A recorded run, and what it takes to run it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Decoding, Directive, Outcome, Passes, Policy

Ids = list[int]
Key = object
"""What a directive is known by in all rows of a batch; rows that skip one keep the others aligned."""


@dataclass(frozen=True)
class RecordedRun:
    """One entry of samples.json (see the fixtures' README). `attention_mask` is None where no row is padded."""

    id: str
    sampler: str
    params: dict[str, Any]
    prompt_ids: list[Ids]
    output_ids: list[Ids]
    forwards: int  # `nfe`
    attention_mask: list[Ids] | None = None
    trajectory: list[list[Ids]] | None = None
    fields: dict[str, Any] = field(default_factory=dict)  # the whole entry


Log = list[tuple[Key, int]]
"""Of one row: what each directive is known by, and how many forward passes it took."""


def in_order(directive: Directive, line: Line, number: int) -> Key:
    """Directives known by their place: right where all rows of a batch are given the same ones."""
    return number


def by_place(directive: Directive, line: Line, number: int) -> Key:
    """Passes known by where their window ends, counted from the prompt's end, and whether they run the whole canvas."""
    if isinstance(directive, Passes):
        return directive.window[1] - line.prompt_length, directive.query == (0, len(line.canvas))
    return number


def whole_canvas(line: Line) -> Ids:
    """What most loops return."""
    return line.canvas.tolist()


@dataclass
class PreparedRow:
    """A line that is not written yet. `output` says what the loop would have returned once it is; `canvas` how a trajectory shows it."""

    policy: Policy
    line: Line
    output: Callable[[Line], Ids] = whole_canvas
    key: Callable[[Directive, Line, int], Key] = in_order
    log: Log = field(default_factory=list)
    canvas: Callable[[Line], Ids] | None = None  # None: no trajectory is compared

    @property
    def noting(self) -> NotingPolicy:
        """The policy, which notes every directive's passes in `log`."""
        return NotingPolicy(self)


@dataclass
class NotingPolicy:
    """A policy that does as another one and notes what came of it."""

    row: PreparedRow

    def decode(self, line: Line) -> Decoding:
        """As the row's policy."""
        return noted(self.row.policy.decode(line), self.row, line)


def noted(decoding: Decoding, row: PreparedRow, line: Line) -> Generator[Directive, Outcome, None]:
    """`decoding`, with every outcome noted in the row's log."""
    row.log.clear()
    try:
        directive = next(decoding)
        while True:
            outcome = yield directive
            row.log.append((row.key(directive, line, len(row.log)), outcome.passes))
            directive = decoding.send(outcome)
    except StopIteration:
        return


def slowest_rows(logs: Sequence[Log]) -> int:
    """Calls of a loop that runs all rows until the last one is done: per directive the most that any row took."""
    most: Counter[Key] = Counter()
    for log in logs:
        passes: Counter[Key] = Counter()
        for key, count in log:
            passes[key] += count
        most |= passes
    return most.total()


@dataclass
class PreparedRun:
    """The rows of a run. `count` says how many calls the published loop would have made, given the rows' logs."""

    rows: list[PreparedRow]
    count: Callable[[Sequence[Log]], int] = slowest_rows

    @property
    def forwards(self) -> int:
        """Of rows that have been written."""
        return self.count([row.log for row in self.rows])
