"""Which tokens of a step see each other, as the step graph wants to know it: by a block id each.

Token i of a row sees token j if i is j, or if 0 <= block_ids[j] <= level, the level being block_ids[i], or -2 - block_ids[i] where that is
negative. So a token with a negative id is seen by nobody else; with -1 it sees only the past, with -2 block 0 too, with -3 blocks 0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def block_ids(causal: Sequence[bool], length: int) -> NDArray[np.int64]:
    """Block ids [B, L]: a token sees those of its row whose id is not above its own.

    0, 1, 2, ... in a causal row, where every token is a block of its own, and 0 throughout in any other, where all see all. Padding
    behind a row's tokens goes on in the same way. Nothing depends on that: the graph hides it by `query_lengths` from real tokens, and
    what it computes for padding is never read.
    """
    in_order = np.arange(length, dtype=np.int64)
    return np.where(np.array(causal, np.bool_)[:, None], in_order, np.int64(0))
