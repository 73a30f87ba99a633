"""The scheduler: many lines, one engine, one thread."""

from __future__ import annotations

import logging
import threading
import time

from dlm_runtime.cache import PrefixCache
from dlm_runtime.engines.base import Engine
from dlm_runtime.errors import DlmError, QueueFull, SchedulerClosed
from dlm_runtime.policies.choose import check_servable
from dlm_runtime.scheduler.checks import check_request
from dlm_runtime.scheduler.counters import Counters
from dlm_runtime.scheduler.row import Row
from dlm_runtime.scheduler.steps import Steps
from dlm_runtime.scheduler.types import Accepted, LineRequest, Listener, SchedulerStats, Ticket
from dlm_runtime.scheduler.waiting import WaitingRows

_log = logging.getLogger(__name__)


class Scheduler:
    """Serves up to `max_rows` lines at once and lets `max_waiting` more wait.

    Rows join and leave between steps; every step runs all rows that are there. The engine is used from the scheduler's thread alone and
    stays the caller's to close. `prefill_step_tokens` bounds how many prompt tokens run between two steps of the lines being written.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_rows: int = 64,
        max_waiting: int = 256,
        cache_bytes: int = 64 * 2**20,
        prefill_step_tokens: int = 512,
    ) -> None:
        if max_rows < 1 or max_waiting < 0 or prefill_step_tokens < 1:
            raise ValueError(f"{max_rows=} and {prefill_step_tokens=} must be at least 1, {max_waiting=} at least 0")
        check_servable(engine.manifest)
        self._manifest = engine.manifest
        self._max_rows = max_rows
        self._max_waiting = max_waiting
        self._counters = Counters()
        self._cache = PrefixCache(cache_bytes)
        self._steps = Steps(engine, self._cache, self._counters, prefill_step_tokens)
        self._waiting = WaitingRows()
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()  # guards what follows
        self._arrived: list[Row] = []
        self._open_rows = 0
        self._running = 0
        self._cancelling = False
        self._closing = False
        self._close_at_s = 0.0

    def start(self) -> None:
        """Starts the thread. Raises SchedulerClosed after `close`, RuntimeError when called twice."""
        with self._changed:
            if self._closing:
                raise SchedulerClosed("the scheduler is closed")
            if self._thread is not None:
                raise RuntimeError("the scheduler has been started already")
            self._thread = threading.Thread(target=self._run, name="dlm-scheduler", daemon=True)
            self._thread.start()

    def submit(self, request: LineRequest, listener: Listener) -> Ticket:
        """Queues a line, from any thread, and returns at once.

        `listener` is called on the scheduler's thread: Accepted, then drafts if wanted, then exactly one Finished or Failed.
        Raises RequestError (PromptTooLong among them), QueueFull, SchedulerClosed; then the listener is never called.
        """
        mode = check_request(request, self._manifest)
        with self._changed:
            if self._closing:
                raise SchedulerClosed("the scheduler is closing and takes no more lines")
            if self._open_rows >= self._max_rows + self._max_waiting:
                raise QueueFull(self._counters.retry_after_ms(self._max_waiting, self._max_rows))
            row = Row(request, mode, listener, self._wake_to_cancel)
            self._arrived.append(row)
            self._open_rows += 1
            self._changed.notify()
        return row

    def close(self, drain_s: float = 5.0) -> None:
        """Takes no more lines, lets open ones end for up to `drain_s` seconds, fails the rest (SchedulerClosed) and ends the thread."""
        with self._changed:
            if not self._closing:
                self._closing = True
                self._close_at_s = time.monotonic() + drain_s
            thread = self._thread
            self._changed.notify()
        if thread is not None:
            thread.join()
        else:
            self._drop_all(SchedulerClosed("the scheduler was closed before it was started"))

    def stats(self) -> SchedulerStats:
        """A snapshot, from any thread."""
        with self._changed:
            return self._counters.snapshot(self._running, self._open_rows - self._running, self._cache.stats())

    def _run(self) -> None:
        while self._wait_for_work():
            started_s = time.perf_counter()
            try:
                self._let_in()
                for ended in self._steps.run():
                    self._end(ended)
                    self._drop_cancelled()
            except Exception as error:  # a fault of ours must not leave callers waiting for ever
                _log.exception("the scheduler failed between steps; open lines are dropped")
                self._drop_all(DlmError(f"the scheduler failed: {error!r}"))
            self._counters.busy_s += time.perf_counter() - started_s
        self._drop_all(SchedulerClosed("the scheduler was closed before the line was done"))

    def _wait_for_work(self) -> bool:
        """Sleeps until there is something to do; False when it is time to end."""
        with self._changed:
            while not self._open_rows and not self._closing:
                self._changed.wait()
            return not self._closing or (self._open_rows > 0 and time.monotonic() < self._close_at_s)

    def _let_in(self) -> None:
        """Admits as many rows as there is room for."""
        self._take_up()
        self._drop_cancelled()
        self._end(self._steps.admit(self._waiting.take(self._max_rows - len(self._steps))))

    def _take_up(self) -> None:
        """Queues what has arrived."""
        with self._changed:
            arrived, self._arrived = self._arrived, []
        for row in arrived:
            ahead = self._waiting.add(row)
            self._counters.accepted += 1
            row.emit(Accepted(max(0, ahead - (self._max_rows - len(self._steps)))))

    def _drop_cancelled(self) -> None:
        """Ends the rows whose tickets were cancelled; cheap when there are none."""
        if not self._cancelling:
            return
        with self._changed:
            self._cancelling = False
        self._take_up()  # what was cancelled may not even have been queued
        gone = [*self._waiting.take_cancelled(), *self._steps.take_cancelled()]
        for row in gone:
            row.finish("cancelled")
        self._counters.cancelled += len(gone)
        self._end(gone)

    def _end(self, rows: list[Row]) -> None:
        """Frees the places of rows that have ended, then tells their callers."""
        with self._changed:
            self._open_rows -= len(rows)
            self._running = len(self._steps)
        for row in rows:
            row.deliver()

    def _wake_to_cancel(self) -> None:
        with self._changed:
            self._cancelling = True
            self._changed.notify()

    def _drop_all(self, error: DlmError) -> None:
        with self._changed:
            arrived, self._arrived = self._arrived, []
        rows = [*arrived, *self._waiting.take(len(self._waiting)), *self._steps.take_all()]
        unfinished = [row for row in rows if not row.ended]
        for row in unfinished:
            row.fail(error)
        self._counters.failed += len(unfinished)
        self._end(rows)
