"""The rows that have not begun, in the order in which they will."""

from __future__ import annotations

import bisect

from dlm_runtime.scheduler.row import Row


class WaitingRows:
    """Earliest deadline first, then higher priority, then first come. Belongs to the scheduler's thread."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: Row) -> int:
        """Puts a row in its place and says how many are ahead of it."""
        place = bisect.bisect(self._rows, row.rank, key=lambda other: other.rank)
        self._rows.insert(place, row)
        return place

    def take(self, count: int) -> list[Row]:
        """Removes and returns up to `count` rows, the first in order."""
        taken, self._rows = self._rows[:count], self._rows[count:]
        return taken

    def take_cancelled(self) -> list[Row]:
        """Removes and returns the rows whose tickets were cancelled."""
        gone = [row for row in self._rows if row.cancelled]
        self._rows = [row for row in self._rows if not row.cancelled]
        return gone
