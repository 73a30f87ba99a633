"""Which decoding rows step together: those that run equally many tokens over contexts of like length."""

from __future__ import annotations

from collections.abc import Iterator

from dlm_runtime.bundle import Manifest
from dlm_runtime.scheduler.arena import ContextArena
from dlm_runtime.scheduler.row import Row

_SHORT_CONTEXT_TOKENS = 256  # up to here one arena serves all; beyond it one per doubling, so that at most half of a past is padding
_Key = tuple[bool, int]


class Arenas:
    """The arenas, made when needed. A row stands in exactly one."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._arenas: dict[_Key, ContextArena] = {}

    def __iter__(self) -> Iterator[ContextArena]:
        """Arenas that hold rows; rows may come and go meanwhile."""
        return iter([arena for arena in self._arenas.values() if arena.rows])

    def __len__(self) -> int:
        """Rows in all arenas."""
        return sum(len(arena.rows) for arena in self._arenas.values())

    @property
    def rows(self) -> list[Row]:
        """All rows."""
        return [row for arena in self._arenas.values() for row in arena.rows]

    def place(self, row: Row) -> None:
        """Moves a row's own context into the arena it belongs to."""
        if row.context is None:
            raise RuntimeError(f"row {row.id} has no context to place")
        self._arena_for(row).join(row, row.context[:, :, :, : row.context_tokens])
        row.context = None

    def remove(self, row: Row) -> None:
        """Takes a row out of whichever arena holds it."""
        for arena in self._arenas.values():
            if row in arena.rows:
                arena.leave(row)
                break
        self._release()

    def regroup(self, arena: ContextArena) -> None:
        """Moves rows whose context has outgrown this arena, and gives memory back when that or their end has emptied a large one."""
        for row in [row for row in arena.rows if self._arena_for(row) is not arena]:
            self._arena_for(row).join(row, arena.context(row))
            arena.leave(row)
        self._release()

    def clear(self) -> None:
        """Lets all rows go."""
        self._arenas.clear()

    def _release(self) -> None:
        """Drops empty arenas for long contexts; those for short ones are kept, as the next line will want them."""
        for key in [key for key, arena in self._arenas.items() if key[1] and not arena.rows]:
            del self._arenas[key]

    def _arena_for(self, row: Row) -> ContextArena:
        doublings = max(0, (row.context_tokens - 1) // _SHORT_CONTEXT_TOKENS).bit_length()
        key = (row.mode == "ar", doublings)
        arena = self._arenas.get(key)
        if arena is None:
            arena = self._arenas[key] = ContextArena(self._manifest)
        return arena
