"""The allow-table: additive biases that keep tokens out of a line."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dlm_runtime.bundle import Manifest

ANY_WORD_ROW = 0
NO_WORD_ROW = 1


class AllowTable:
    """float32 rows of V biases. Row 0 bans the mask and the control tokens, row 1 bans everything; others ban what some line wants banned.

    A position under row 1 comes last in every ranking: it stands for columns that are run, but are not in their row's window.
    """

    def __init__(self, manifest: Manifest) -> None:
        mask = () if manifest.mask_token_id is None else (manifest.mask_token_id,)
        self._numbers: dict[tuple[int, ...], int] = {}
        usual = _row(manifest.vocab_size, (*mask, *manifest.banned_token_ids))
        self.usual = _frozen(usual)  # [1, V], enough where no row wants more
        self.whole = _frozen(np.concatenate([usual, np.full_like(usual, -np.inf)]))  # [G, V]

    def row_of(self, banned_token_ids: tuple[int, ...] | None) -> int:
        """Number of the row that bans exactly these; None bans what the manifest says."""
        if banned_token_ids is None:
            return ANY_WORD_ROW
        if banned_token_ids not in self._numbers:
            self._numbers[banned_token_ids] = len(self.whole)
            self.whole = _frozen(np.concatenate([self.whole, _row(self.whole.shape[1], banned_token_ids)]))
        return self._numbers[banned_token_ids]


def _row(vocab_size: int, banned: tuple[int, ...]) -> NDArray[np.float32]:
    row = np.zeros((1, vocab_size), np.float32)
    row[0, list(banned)] = -np.inf
    return row


def _frozen(table: NDArray[np.float32]) -> NDArray[np.float32]:
    """An engine need not copy again what cannot change."""
    table.flags.writeable = False
    return table
