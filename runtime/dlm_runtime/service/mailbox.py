"""Carries a line's events from the engine's thread to the event loop."""

from __future__ import annotations

import asyncio
import threading

from dlm_runtime.scheduler import Accepted, Draft, Failed, Finished, LineEvent


class Mailbox:
    """Holds at most one event of each kind, so that a slow reader costs no memory: a new draft takes the place of an unread one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._bell = asyncio.Event()
        self._rung = False  # a ring is on its way or unanswered
        self._accepted: Accepted | None = None
        self._draft: Draft | None = None
        self._last: Finished | Failed | None = None
        self._drafts_posted = 0
        self.revision = 0
        """Number of the draft that `next` returned last, counted from 1, unread ones included."""

    def post(self, event: LineEvent) -> None:
        """Leave an event. From any thread; never blocks for long."""
        with self._lock:
            if isinstance(event, Accepted):
                self._accepted = event
            elif isinstance(event, Draft):
                self._draft = event
                self._drafts_posted += 1
            elif self._last is None:
                self._last = event
            if self._rung:
                return
            self._rung = True
        try:
            self._loop.call_soon_threadsafe(self._bell.set)
        except RuntimeError:
            return  # the loop is closed: nobody is left to read

    async def next(self) -> LineEvent:
        """The oldest unread event. Only for the loop given, one reader at a time."""
        while (event := self._take()) is None:
            await self._bell.wait()
        return event

    def _take(self) -> LineEvent | None:
        with self._lock:
            if (accepted := self._accepted) is not None:
                self._accepted = None
                return accepted
            if (draft := self._draft) is not None:
                self._draft, self.revision = None, self._drafts_posted
                return draft
            if (last := self._last) is not None:
                self._last = None
                return last
            self._bell.clear()
            self._rung = False
            return None
