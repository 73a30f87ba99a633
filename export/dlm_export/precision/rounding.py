"""What all roundings to whole numbers share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

SMALLEST_PEAK = np.float32(1e-12)  # keeps the scale of numbers that are all zero above zero
INT8_LIMIT = 127  # as far below zero as above: -128 stays unused
CHUNK_NUMBERS = 1 << 24


def row_chunks(rows: int, columns: int) -> Iterator[slice]:
    """Ranges that cover the rows of a table, so that what is computed on the way never takes more memory than a few chunks."""
    height = max(CHUNK_NUMBERS // max(columns, 1), 1)
    for start in range(0, rows, height):
        yield slice(start, min(start + height, rows))
