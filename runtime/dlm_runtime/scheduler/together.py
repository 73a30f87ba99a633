"""Lines written together by the scheduler's own executor, without threads, queue or requests: for verification and tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dlm_runtime.cache import PrefixCache
from dlm_runtime.engines.base import Engine
from dlm_runtime.errors import DlmError
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Policy
from dlm_runtime.scheduler.counters import Counters
from dlm_runtime.scheduler.row import Row
from dlm_runtime.scheduler.steps import Steps
from dlm_runtime.scheduler.types import Failed, LineEvent, LineRequest, Listener


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one line; its tokens are in the line itself.

    `passes` lists the forward passes of every directive that its policy gave, in order, with the directive's name: ("Passes", 5).
    """

    line: Line
    passes: tuple[tuple[str, int], ...]

    @property
    def forwards(self) -> int:
        """All forward passes the line took part in."""
        return sum(count for _, count in self.passes)


def write_together(
    engine: Engine, lines: Sequence[tuple[Policy, Line]], prefill_step_tokens: int = 512, cache_bytes: int = 0
) -> list[Written]:
    """Writes all `lines` to their ends in common forward passes and returns what became of them, in the same order.

    Raises what a line's policy or the engine raises, as DlmError.
    """
    steps = Steps(engine, PrefixCache(cache_bytes), Counters(), prefill_step_tokens)
    failures: list[DlmError] = []

    def listen(event: LineEvent) -> None:
        if isinstance(event, Failed):
            failures.append(event.error)

    rows = [_row(engine, policy, line, listen) for policy, line in lines]
    ended = steps.admit(rows)
    while not failures:
        for row in ended:
            row.deliver()
        if not len(steps):
            break
        ended = [row for group in steps.run() for row in group]
    if failures:
        raise failures[0]
    return [Written(line, tuple(row.passes)) for row, (_, line) in zip(rows, lines, strict=True)]


def _row(engine: Engine, policy: Policy, line: Line, listen: Listener) -> Row:
    request = LineRequest((0,))  # the line itself says what is asked
    return Row(request, engine.manifest.default_mode, listen, lambda: None, policy, line)
