"""Which decoding rows step together: those that run about as many tokens over contexts of like length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dlm_runtime.bundle import Manifest
from dlm_runtime.engines.key_values import KeyValues
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Extend, Passes, Sees, Speculate
from dlm_runtime.scheduler.arena import ContextArena, mask_of
from dlm_runtime.scheduler.opening import has_masks_beside
from dlm_runtime.scheduler.row import Row

_SHORT_CONTEXT_TOKENS = 256  # up to here one arena serves all; beyond it one per doubling, so that at most half of a past is padding
_SHORT_QUERY_TOKENS = 32  # likewise; single tokens stand apart


class Key(NamedTuple):
    """What rows of an arena have in common."""

    query: int  # 0 a single token, 1 up to 32 tokens, then one per doubling
    context: int  # 0 up to 256 tokens, then one per doubling
    guided: bool = False  # every row has a twin, and no context
    exact: int = 0  # everybody's window is so wide and no wider; 0: any


class Arenas:
    """The arenas, made when needed. A row stands in exactly one."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._arenas: dict[Key, ContextArena] = {}

    def __iter__(self) -> Iterator[tuple[Key, ContextArena]]:
        """Arenas that hold rows; rows may come and go meanwhile."""
        return iter([(key, arena) for key, arena in self._arenas.items() if arena.rows])

    def __len__(self) -> int:
        """Rows in all arenas."""
        return sum(len(arena.rows) for arena in self._arenas.values())

    @property
    def rows(self) -> list[Row]:
        """All rows."""
        return [row for arena in self._arenas.values() for row in arena.rows]

    def key_for(self, line: Line, directive: Passes | Extend | Speculate, context_tokens: int) -> Key:
        """Where a row belongs that begins this directive. Raises ValueError for guidance over a context."""
        context = _doublings(context_tokens, _SHORT_CONTEXT_TOKENS)
        if not isinstance(directive, Passes):
            return Key(_query_class(directive.block_length if isinstance(directive, Speculate) else 1), context)
        size = (directive.query[1] - directive.query[0]) * (2 if directive.sees == Sees.ECHO else 1)
        guided = directive.guided and line.sampling.guidance > 0
        if guided and context_tokens:
            raise ValueError(f"{directive.guided=} needs a row without context, this one has {context_tokens} tokens")
        return Key(_query_class(size), context, guided, self._exact(line, directive))

    def arena(self, key: Key) -> ContextArena:
        """That of the key."""
        arena = self._arenas.get(key)
        if arena is None:
            arena = self._arenas[key] = ContextArena(self._manifest)
        return arena

    def join(self, key: Key, row: Row, context: KeyValues | None) -> tuple[ContextArena, int]:
        """Gives a row a place in the arena of the key."""
        arena = self.arena(key)
        return arena, arena.join(row, context)

    def find(self, row: Row) -> tuple[ContextArena, int] | None:
        """Where a row stands."""
        for arena in self._arenas.values():
            if row in arena.rows:
                return arena, arena.rows.index(row)
        return None

    def regroup(self, key: Key, arena: ContextArena) -> None:
        """Moves rows whose context has outgrown this arena."""
        most = _SHORT_CONTEXT_TOKENS << key.context
        if arena.capacity_tokens <= most:
            return
        for place in reversed(np.flatnonzero(arena.slate.context[: len(arena.rows)] > most).tolist()):
            context = _doublings(int(arena.slate.context[place]), _SHORT_CONTEXT_TOKENS)
            arena.move(place, self.arena(key._replace(context=context)))

    def release(self) -> None:
        """Gives memory back: drops empty arenas, but those for short queries and contexts, as the next line will want them."""
        for key in [key for key, arena in self._arenas.items() if (key.context or key.query > 1 or key.exact) and not arena.rows]:
            del self._arenas[key]

    def clear(self) -> None:
        """Lets all rows go."""
        self._arenas.clear()

    def _exact(self, line: Line, directive: Passes) -> int:
        """Noise on the ranking may lift a column beside the window above those within, so such a row's window must not be any wider."""
        start, stop = directive.window
        if directive.next_token or not directive.rule.alg_temperature > 0:
            return 0
        return stop - start if has_masks_beside(line, directive, mask_of(self._manifest)) else 0


def _query_class(tokens: int) -> int:
    return 0 if tokens == 1 else 1 + _doublings(tokens, _SHORT_QUERY_TOKENS)


def _doublings(tokens: int, short: int) -> int:
    """How often `short` must be doubled until it holds so many tokens."""
    return max(0, (tokens - 1) // short).bit_length()
