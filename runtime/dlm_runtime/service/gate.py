"""Decides whether a call may come in: not while the server warms up, and not once it shuts down."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from dlm_runtime.errors import DlmError

WARM_UP_RETRY_MS = 500


class NotServing(DlmError):
    """The server cannot take calls now. `retry_after_ms` is None when waiting for this server is of no use."""

    def __init__(self, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class Gate:
    """Counts the calls inside. Lives on the event loop; not for other threads."""

    def __init__(self) -> None:
        self._state: Literal["warming", "open", "closed"] = "warming"
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def inside(self) -> int:
        """Number of calls that have come in and not gone out."""
        return self._inside

    def open(self) -> None:
        """Let calls in, unless the gate was closed."""
        if self._state == "warming":
            self._state = "open"

    def close(self) -> None:
        """Let no more calls in, for good. Those inside go on."""
        self._state = "closed"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Hold a place inside. Raises `NotServing` while the gate is not open."""
        if self._state == "warming":
            raise NotServing("the server is warming up; try again soon", WARM_UP_RETRY_MS)
        if self._state == "closed":
            raise NotServing("the server is shutting down; connect to another one or wait for its restart")
        self._inside += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if self._inside == 0:
                self._empty.set()

    async def wait_empty(self, limit_s: float) -> bool:
        """Wait until nobody is inside, `limit_s` at most. False when the time was not enough."""
        try:
            await asyncio.wait_for(self._empty.wait(), limit_s)
        except TimeoutError:
            return False
        return True
