"""Counting what the scheduler does."""

from __future__ import annotations

from dlm_runtime.cache import CacheStats
from dlm_runtime.scheduler.types import LineResult, SchedulerStats

_SMOOTHING = 0.1
_FIRST_LINE_MS = 100.0


class Counters:
    """Written by the scheduler's thread, read by any: every field is replaced whole, so a reader sees the old or the new number."""

    def __init__(self) -> None:
        self.accepted = 0
        self.finished = 0
        self.cancelled = 0
        self.failed = 0
        self.steps = 0
        self.row_steps = 0
        self.tokens = 0
        self.forwards = 0
        self.engine_s = 0.0
        self.busy_s = 0.0
        self.line_ms = _FIRST_LINE_MS  # running mean

    def step(self, rows: int, seconds: float) -> None:
        """One engine call."""
        self.steps += 1
        self.row_steps += rows
        self.engine_s += seconds

    def line(self, result: LineResult) -> None:
        """One line that ended by itself."""
        self.finished += 1
        self.tokens += result.tokens
        self.forwards += result.forwards
        self.line_ms += _SMOOTHING * (result.total_ms - result.queue_ms - self.line_ms)

    def retry_after_ms(self, waiting: int, max_rows: int) -> int:
        """When a place in the queue should be free: the time in which as many lines end as wait for one row."""
        return max(10, round(self.line_ms * (1 + waiting / max_rows)))

    def snapshot(self, running: int, waiting: int, cache: CacheStats) -> SchedulerStats:
        """All numbers as they are now."""
        return SchedulerStats(
            running=running,
            waiting=waiting,
            accepted=self.accepted,
            finished=self.finished,
            cancelled=self.cancelled,
            failed=self.failed,
            steps=self.steps,
            rows_per_step=self.row_steps / self.steps if self.steps else 0.0,
            tokens=self.tokens,
            forwards=self.forwards,
            engine_ms=self.engine_s * 1000,
            busy_ms=self.busy_s * 1000,
            cache=cache,
        )
