"""The header of a safetensors file, read on its own so that a file cut short can be told by tensor name.

Form: 8 bytes little-endian header length, a JSON object name -> {dtype, shape, data_offsets}, then the data.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from .errors import CheckpointError

MAX_HEADER_BYTES = 100_000_000
REMEDY = "Download the checkpoint again"
ITEM_BYTES = {  # of one number
    "F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One tensor: its data are the bytes `start` to `stop` of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Header:
    """What a file says it holds, by tensor name."""

    entries: dict[str, Entry]


def read_header(file: Path) -> Header:
    """Read and check a header against the file's size. Raises CheckpointError naming the first tensor whose data is not there."""
    try:
        size_bytes = file.stat().st_size
        with file.open("rb") as stream:
            prefix = stream.read(8)
            header_bytes = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else -1
            if not 2 <= header_bytes <= min(MAX_HEADER_BYTES, size_bytes - 8):
                raise CheckpointError(file, f"is cut short or no safetensors file ({size_bytes} bytes)", REMEDY)
            fields = json.loads(stream.read(header_bytes))
    except FileNotFoundError:
        raise CheckpointError(file, "does not exist", REMEDY) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(file, f"has no readable header ({error})", REMEDY) from error
    if not isinstance(fields, dict):
        raise CheckpointError(file, "has a header that is not an object", REMEDY)
    named = {name: value for name, value in fields.items() if name != "__metadata__"}
    entries = {name: read_entry(file, name, value, 8 + header_bytes, size_bytes) for name, value in named.items()}
    check_apart(file, entries)
    return Header(entries)


def read_entry(file: Path, name: str, value: Any, data_start: int, size_bytes: int) -> Entry:
    """One entry, its data inside the file and as long as shape and type say."""
    try:
        dtype, shape = str(value["dtype"]), tuple(whole(size) for size in value["shape"])
        first, last = (whole(offset) for offset in value["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(file, f"has a malformed header entry ({error!r})", REMEDY, item=name) from error
    if data_start + last > size_bytes:
        problem = f"is cut short: the tensor ends at byte {last} of {size_bytes - data_start}"
        raise CheckpointError(file, problem, REMEDY, item=name)
    if dtype in ITEM_BYTES and last - first != math.prod(shape) * ITEM_BYTES[dtype]:
        problem = f"has {last - first} bytes for {dtype} {list(shape)}, which takes {math.prod(shape) * ITEM_BYTES[dtype]}"
        raise CheckpointError(file, problem, REMEDY, item=name)
    return Entry(dtype, shape, data_start + first, data_start + last)


def whole(value: object) -> int:
    """A whole number that is not negative."""
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} where a size or an offset should be")
    return value


def check_apart(file: Path, entries: dict[str, Entry]) -> None:
    """Raise CheckpointError where two tensors lie on the same bytes."""
    ordered = sorted(((entry.start, entry.stop, name) for name, entry in entries.items() if entry.stop > entry.start))
    for (_, stop, before), (start, _, name) in pairwise(ordered):
        if start < stop:
            raise CheckpointError(file, f"lies on the same bytes as {before}", REMEDY, item=name)
