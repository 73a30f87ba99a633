"""Where decoding rows stand side by side: their contexts in the very layout the engine reads, and what each of them is at."""

from __future__ import annotations

from itertools import count

import numpy as np

from dlm_runtime.bundle import Manifest
from dlm_runtime.engines.base import Int64
from dlm_runtime.engines.key_values import KeyValues
from dlm_runtime.scheduler.row import Row
from dlm_runtime.scheduler.slate import NO_TOKEN, Slate

_TOKENS_STEP = 32  # capacity grows in pieces of this many tokens
_FIRST_BYTES = 256 * 2**20  # places for up to 64 rows are made at once if they take no more; what no row has touched is only reserved

_versions = count(1)  # of all arenas together: another arena may come to lie where one has been


class ContextArena:
    """Rows 0..n-1 and their contexts; the first n rows of every layer and kind are contiguous, so that a step copies none of them.

    A row that leaves is replaced by the last one. Unused places hold zeros or what earlier rows left there, finite in any case.
    `past_version` is another number whenever `past` is not what it was.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.slate = Slate(mask_of(manifest))
        self._manifest = manifest
        self._data = self._past = KeyValues.zeros(manifest, 0, 0)
        self.past_version = next(_versions)

    @property
    def rows(self) -> list[Row]:
        """The rows in the order of their places."""
        return self.slate.rows

    @property
    def past(self) -> KeyValues:
        """n rows of as many tokens as there is room for."""
        n = len(self.slate)
        if self._past.rows != n or self._past.tokens != self._data.tokens:
            self._past = self._data.part(slice(n))
        return self._past

    @property
    def capacity_tokens(self) -> int:
        """No context is longer."""
        return self._data.tokens

    def join(self, row: Row, context: KeyValues | None) -> int:
        """Takes in a row, whose context (one row, None: empty) is copied, and says where it stands."""
        tokens = 0 if context is None else context.tokens
        self.past_version = next(_versions)
        self._reserve(len(self.slate) + 1, tokens)
        if context is not None and tokens:
            self._row(len(self.slate), tokens).put(context)
        return self.slate.join(row, tokens)

    def leave(self, place: int) -> None:
        """Lets the row at `place` go."""
        self.past_version = next(_versions)
        self._fill_gap(place)
        self.slate.leave(place)

    def move(self, place: int, other: ContextArena) -> None:
        """Takes the row at `place` into another arena, in the middle of what it does."""
        context = self.context(place)
        self.past_version, other.past_version = next(_versions), next(_versions)
        other._reserve(len(other.slate) + 1, context.tokens)
        if context.tokens:
            other._row(len(other.slate), context.tokens).put(context)
        self._fill_gap(place)
        self.slate.move(place, other.slate)

    def context(self, place: int) -> KeyValues:
        """A row's context, as a view that the next change of the arena may overwrite."""
        return self._row(place, int(self.slate.context[place]))

    def append(self, present: KeyValues, counts: Int64) -> None:
        """Adds the first `counts[i]` of row i's `keeps` columns of `present` to its context."""
        n = len(self.slate)
        starts = self.slate.context[:n]
        self.past_version = next(_versions)
        self._reserve(n, int((starts + counts).max()))
        if present.tokens == 1 and counts.max() == 1:
            rows = counts.nonzero()[0]
            self._data.put_tokens(rows, starts[rows], present, np.zeros_like(rows))
            starts += counts
            return
        rows = np.repeat(np.arange(n), counts)
        offsets = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        self._data.put_tokens(rows, starts[rows] + offsets, present, self.slate.keeps[rows, offsets])
        starts += counts

    def _row(self, place: int, tokens: int) -> KeyValues:
        return self._data.part(slice(place, place + 1), slice(tokens))

    def _fill_gap(self, place: int) -> None:
        last = len(self.slate) - 1
        if place != last:
            tokens = int(self.slate.context[last])
            self._row(place, tokens).put(self._row(last, tokens))

    def _reserve(self, rows: int, tokens: int) -> None:
        have_rows, have_tokens = self._data.rows, self._data.tokens
        tokens = -(-tokens // _TOKENS_STEP) * _TOKENS_STEP
        if not self.rows and 2 * tokens <= have_tokens:
            have_tokens = 0  # nobody is here: a good moment to get rid of padding that a longer row once needed
        if rows <= have_rows and tokens <= have_tokens:
            return
        new_tokens = max(tokens, have_tokens)
        new_rows = have_rows if rows <= have_rows else max(rows, 2 * have_rows, self._first_rows(new_tokens))
        old, n = self._data, len(self.slate)
        self._data = KeyValues.zeros(self._manifest, new_rows, new_tokens)
        self._past = self._data.part(slice(n))
        if n:
            self._data.part(slice(n), slice(old.tokens)).put(old.part(slice(n)))

    def _first_rows(self, tokens: int) -> int:
        row_bytes = KeyValues.zeros(self._manifest, 1, 1).nbytes * max(tokens, 1)
        return max(4, min(64, _FIRST_BYTES // row_bytes))


def mask_of(manifest: Manifest) -> int:
    """The mask, or where the model has none, what no token is."""
    return NO_TOKEN if manifest.mask_token_id is None else manifest.mask_token_id
