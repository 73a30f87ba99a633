"""Numbers of one tensor, read from its bytes in a safetensors file.

The file is read, not mapped: mapped pages would count as memory in use until the whole checkpoint was in it, and opening a shard anew for
each of ten thousand experts would parse its header as often.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from .errors import CheckpointError
from .safetensors_header import ITEM_BYTES, REMEDY, Entry

TORCH_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
Index = tuple[int | slice, ...]


def read_tensor(file: Path, name: str, entry: Entry, index: Index = ()) -> torch.Tensor:
    """A tensor, or the part that `index` cuts out of it; rows that are not wanted are not read.

    Raises CheckpointError naming file and tensor where it cannot be read or is not floating point.
    """
    kind = TORCH_TYPES.get(entry.dtype)
    if kind is None:
        raise CheckpointError(file, f"holds {entry.dtype}", "Only floating point weights can be exported", item=name)
    first, count, rest = leading_rows(entry.shape, index)
    row_bytes = math.prod(entry.shape[1:]) * ITEM_BYTES[entry.dtype]
    data = np.empty(count * row_bytes, np.uint8)
    try:
        with file.open("rb") as stream:
            stream.seek(entry.start + first * row_bytes)
            read = stream.readinto(data.data)
    except OSError as error:
        raise CheckpointError(file, f"cannot be read ({error})", "Check the disk and the file's permissions", item=name) from error
    if read != data.nbytes:
        raise CheckpointError(file, "ends before the tensor does", REMEDY, item=name)
    shape = (count, *entry.shape[1:]) if entry.shape else ()
    return torch.from_numpy(data).view(kind).view(shape)[rest]


def leading_rows(shape: tuple[int, ...], index: Index) -> tuple[int, int, Index]:
    """Which rows of the first axis an index takes, first and how many, and the index to apply to what was read of them."""
    if not shape:
        return 0, 1, ()
    if not index:
        return 0, shape[0], ()
    if isinstance(index[0], int):
        return index[0], 1, (0, *index[1:])
    start, stop, step = index[0].indices(shape[0])
    if step != 1:
        raise ValueError(f"{index=} takes rows that do not follow each other")
    return start, stop - start, (slice(None), *index[1:])
