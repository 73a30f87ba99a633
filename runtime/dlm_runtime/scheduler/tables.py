"""The allow-table: additive biases that keep tokens out of a line."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dlm_runtime.bundle import Manifest
from dlm_runtime.policies import check_servable

ANY_WORD_ROW = 0


def allow_table(manifest: Manifest) -> NDArray[np.float32]:
    """float32 [1, V]: row 0 bans the mask and the control tokens, and nothing else. Raises BundleError as `check_servable` does."""
    table = np.zeros((1, manifest.vocab_size), np.float32)
    table[ANY_WORD_ROW, [check_servable(manifest), *manifest.banned_token_ids]] = -np.inf
    return table
