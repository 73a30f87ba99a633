"""Where the contexts of decoding rows lie: side by side, in the very layout the engine reads, so that a step copies none of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dlm_runtime.bundle import Manifest
from dlm_runtime.scheduler.row import Row

Float32 = NDArray[np.float32]
_TOKENS_STEP = 32  # capacity grows in pieces of this many tokens
_FIRST_BYTES = 256 * 2**20  # places for up to 64 rows are made at once if they take no more; what no row has touched is only reserved


class ContextArena:
    """Rows 0..n-1 of one array [layers, 2, rows, Hkv, tokens, dh]; the first n rows of every layer and kind are contiguous.

    A row that leaves is replaced by the last one. Unused places hold zeros or what earlier rows left there, finite in any case.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.rows: list[Row] = []
        self._manifest = manifest
        self._data = self._empty(0, 0)

    @property
    def past(self) -> Float32:
        """[layers, 2, n, Hkv, P, dh], P the capacity in tokens."""
        return self._data[:, :, : len(self.rows)]

    def join(self, row: Row, context: Float32) -> None:
        """Takes in a row whose context [layers, 2, Hkv, tokens, dh] is copied."""
        tokens = context.shape[3]
        self._reserve(len(self.rows) + 1, tokens)
        self._data[:, :, len(self.rows), :, :tokens] = context
        self.rows.append(row)

    def leave(self, row: Row) -> None:
        """Lets a row go."""
        place, last = self.rows.index(row), len(self.rows) - 1
        if place != last:
            moved = self.rows[last]
            self._data[:, :, place, :, : moved.context_tokens] = self._data[:, :, last, :, : moved.context_tokens]
            self.rows[place] = moved
        self.rows.pop()

    def context(self, row: Row) -> Float32:
        """The row's context [layers, 2, Hkv, tokens, dh], as a view that the next change of the arena may overwrite."""
        return self._data[:, :, self.rows.index(row), :, : row.context_tokens]

    def append(self, present: Float32, counts: Sequence[int]) -> None:
        """Adds the first `counts[i]` tokens of `present` [layers, 2, n, Hkv, L, dh] to row i and moves its `context_tokens` on."""
        ends = [row.context_tokens + count for row, count in zip(self.rows, counts, strict=True)]
        self._reserve(len(self.rows), max(ends))
        if present.shape[4] == 1 and all(counts):  # one token for every row: one assignment instead of one per row
            places = np.arange(len(self.rows))
            starts = np.array([row.context_tokens for row in self.rows])
            # Two index arrays around a slice put the indexed axis first: [n, layers, 2, Hkv, dh].
            self._data[:, :, places, :, starts] = present[:, :, :, :, 0].transpose(2, 0, 1, 3, 4)
        else:
            for place, (row, count) in enumerate(zip(self.rows, counts, strict=True)):
                if count:
                    self._data[:, :, place, :, row.context_tokens : ends[place]] = present[:, :, place, :, :count]
        for row, end in zip(self.rows, ends, strict=True):
            row.context_tokens = end

    def _reserve(self, rows: int, tokens: int) -> None:
        have_rows, have_tokens = self._data.shape[2], self._data.shape[4]
        tokens = -(-tokens // _TOKENS_STEP) * _TOKENS_STEP
        if not self.rows and 2 * tokens <= have_tokens:
            have_tokens = 0  # nobody is here: a good moment to get rid of padding that a longer row once needed
        if rows <= have_rows and tokens <= have_tokens:
            return
        new_tokens = max(tokens, have_tokens)
        new_rows = have_rows if rows <= have_rows else max(rows, 2 * have_rows, self._first_rows(new_tokens))
        old = self._data
        self._data = self._empty(new_rows, new_tokens)
        if self.rows:
            self._data[:, :, : len(self.rows), :, :have_tokens] = old[:, :, : len(self.rows)]

    def _first_rows(self, tokens: int) -> int:
        manifest = self._manifest
        row_bytes = 4 * manifest.layers * 2 * manifest.kv_heads * max(tokens, 1) * manifest.head_dim
        return max(4, min(64, _FIRST_BYTES // row_bytes))

    def _empty(self, rows: int, tokens: int) -> Float32:
        manifest = self._manifest
        return np.zeros((manifest.layers, 2, rows, manifest.kv_heads, tokens, manifest.head_dim), np.float32)
