"""The header of a safetensors file, read on its own so that a file cut short can be told by tensor name.

Form: 8 bytes little-endian header length, a JSON object name -> {dtype, shape, data_offsets}, then the data.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from .errors import CheckpointError

MAX_HEADER_BYTES = 100_000_000
REMEDY = "Download the checkpoint again"


@dataclass(frozen=True)
class Header:
    """What a file says it holds."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]


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
    return check_entries(file, fields, size_bytes - 8 - header_bytes)


def check_entries(file: Path, fields: object, data_bytes: int) -> Header:
    """Check every entry of a parsed header; `data_bytes` is how much data the file really has."""
    if not isinstance(fields, dict):
        raise CheckpointError(file, "has a header that is not an object", REMEDY)
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    for name, entry in fields.items():
        if name == "__metadata__":
            continue
        try:
            dtypes[name] = str(entry["dtype"])
            shapes[name] = tuple(int(size) for size in entry["shape"])
            end = int(entry["data_offsets"][1])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise CheckpointError(file, f"has a malformed header entry ({error!r})", REMEDY, item=name) from error
        if end > data_bytes:
            raise CheckpointError(file, f"is cut short: the tensor ends at byte {end} of {data_bytes}", REMEDY, item=name)
    return Header(shapes, dtypes)
