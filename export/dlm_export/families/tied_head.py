"""A head that config.json calls tied, and that the checkpoint stores all the same."""

from __future__ import annotations

import numpy as np

from ..checkpoint import Checkpoint

ROWS = 8192  # compared at a time: two whole tables would be gigabytes in memory


def holds_another_head(checkpoint: Checkpoint, table: str, head: str, shape: tuple[int, int]) -> bool:
    """Whether both the embedding table [V, D] and the head are stored, and their values differ.

    Training frameworks often save the one table twice. Where the two differ, transformers 5 takes the head for one of its own, whatever
    config.json says; older versions drop it. Raises CheckpointError as `Checkpoint.read` does.
    """
    if table not in checkpoint.shard_of or head not in checkpoint.shard_of:
        return False
    parts = (slice(row, row + ROWS) for row in range(0, shape[0], ROWS))
    return any(not np.array_equal(checkpoint.read(table, shape, (part,)), checkpoint.read(head, shape, (part,))) for part in parts)
