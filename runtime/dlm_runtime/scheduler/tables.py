"""The allow-table: additive biases that keep tokens out of a line."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dlm_runtime.bundle import Manifest

ANY_WORD_ROW = 0


def allow_table(manifest: Manifest) -> NDArray[np.float32]:
    """float32 [1, V]: row 0 bans the mask and the control tokens, and nothing else."""
    table = np.zeros((1, manifest.vocab_size), np.float32)
    banned = [manifest.mask_token_id, *manifest.banned_token_ids]
    table[ANY_WORD_ROW, banned] = -np.inf
    return table
