"""One test case of `dlm::ParallelUnmask` version 2 as one `.bin` file that any language reads without a library.

Everything is little-endian. A file is a header, then the op's inputs, then the expected outputs, both in the op's order:

    offset 0   8 bytes   magic, the characters DLMUNMSK
    offset 8   int64     format, 1
    offset 16  int64     version of the op, 2
    offset 24  int64     type of the logits: 0 float32, 1 float16, 2 bfloat16
    offset 32  int64 x 6 B, W, V, G, K, mask_token_id                      (K is the attribute top_k)
    offset 80            the arrays, C order, one after the other; each starts at a multiple of 8 (zero bytes fill the gap)

    input   logits [B,W,V] (float32, or 2 bytes each)   tokens int64 [B,W]   live uint8 [B,W] (0 or 1)   positions int64 [B,W]
            allow_rows int64 [B,W]   allow_table float32 [G,V] (0, -inf or any finite bias)   quota int64 [B]   threshold float32 [B]
            factor float32 [B]   measure int64 [B]   temperature float32 [B]   rank_temperature float32 [B]   seed int64 [B]
            step int64 [B]
    output  canvas int64 [B,W]   committed int64 [B]   sampled_ids int64 [B,W]   confidence float32 [B,W]   entropy float32 [B,W]
            top_ids int64 [B,W,K]   top_logprobs float32 [B,W,K]

The file ends with the last array (and its filling). Whole numbers must be met exactly: the cases are made so that no decision hangs on
rounding (`separation`). A float x is right if it is the same infinity as the expected y, or |x - y| <= 2e-5 * (1 + |y|).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlm_kernels.unmask import UnmaskInputs, UnmaskOutputs

from .half_floats import LOGITS_TYPES, LogitsType, pack_logits, unpack_logits

MAGIC = b"DLMUNMSK"
FORMAT, OP_VERSION = 1, 2
HEADER = struct.Struct("<8s9q")
ALIGNMENT = 8
TOLERANCE = 2e-5

INT, FLOAT, BOOL = "<i8", "<f4", "|b1"
INPUTS = (  # after the logits
    ("tokens", INT, "BW"),
    ("live", BOOL, "BW"),
    ("positions", INT, "BW"),
    ("allow_rows", INT, "BW"),
    ("allow_table", FLOAT, "GV"),
    ("quota", INT, "B"),
    ("threshold", FLOAT, "B"),
    ("factor", FLOAT, "B"),
    ("measure", INT, "B"),
    ("temperature", FLOAT, "B"),
    ("rank_temperature", FLOAT, "B"),
    ("seed", INT, "B"),
    ("step", INT, "B"),
)
OUTPUTS = (
    ("canvas", INT, "BW"),
    ("committed", INT, "B"),
    ("sampled_ids", INT, "BW"),
    ("confidence", FLOAT, "BW"),
    ("entropy", FLOAT, "BW"),
    ("top_ids", INT, "BWK"),
    ("top_logprobs", FLOAT, "BWK"),
)


@dataclass(frozen=True)
class UnmaskCase:
    """A question and its answer. `inputs.logits` is float32 and holds only values that `logits_type` can hold."""

    inputs: UnmaskInputs
    expected: UnmaskOutputs
    mask_token_id: int
    top_k: int
    logits_type: LogitsType = "fp32"

    @property
    def sizes(self) -> dict[str, int]:
        """B, W, V, G and K by letter."""
        rows, window, vocab = self.inputs.logits.shape
        return {"B": rows, "W": window, "V": vocab, "G": len(self.inputs.allow_table), "K": self.top_k}


def padded(data: bytes) -> bytes:
    """`data`, and zeros up to a multiple of 8."""
    return data + bytes(-len(data) % ALIGNMENT)


def write_case(path: Path, case: UnmaskCase) -> None:
    """Write `case` to `path`. Raises ValueError if an array has not the shape that the others ask for."""
    sizes = case.sizes
    header = HEADER.pack(MAGIC, FORMAT, OP_VERSION, LOGITS_TYPES.index(case.logits_type), *sizes.values(), case.mask_token_id)
    parts = [header, padded(pack_logits(case.inputs.logits, case.logits_type))]
    for holder, layout in ((case.inputs, INPUTS), (case.expected, OUTPUTS)):
        for name, kind, letters in layout:
            array = np.asarray(getattr(holder, name))
            shape = tuple(sizes[letter] for letter in letters)
            if array.shape != shape:
                raise ValueError(f"{path.name}: {name} has shape {array.shape}, expected {shape} ({', '.join(letters)})")
            parts.append(padded(array.astype(kind).tobytes()))
    path.write_bytes(b"".join(parts))


class ArrayReader:
    """Takes arrays off the front of a file's bytes."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name, self.offset = data, name, HEADER.size

    def take(self, kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """The next array, copied. Raises ValueError where the file is too short for it."""
        count = math.prod(shape)
        size = count * np.dtype(kind).itemsize
        if self.offset + size > len(self.data):
            raise ValueError(f"{self.name}: ends after {len(self.data)} bytes; an array of shape {shape} should start at {self.offset}")
        array = np.frombuffer(self.data, kind, count, self.offset).reshape(shape).copy()
        self.offset += size + -size % ALIGNMENT
        return array


def read_case(path: Path) -> UnmaskCase:
    """The case that `write_case` wrote. Raises ValueError for a file of another format or length."""
    data = path.read_bytes()
    if len(data) < HEADER.size or not data.startswith(MAGIC):
        raise ValueError(f"{path.name}: no ParallelUnmask test case (it starts with {data[:8]!r}, expected {MAGIC!r})")
    _, file_format, op_version, type_code, *numbers = HEADER.unpack_from(data)
    if (file_format, op_version) != (FORMAT, OP_VERSION) or not 0 <= type_code < len(LOGITS_TYPES):
        raise ValueError(f"{path.name}: {file_format=} {op_version=} {type_code=} is not known here; generate the vectors anew")
    *counts, mask_token_id = numbers
    sizes = dict(zip("BWVGK", counts, strict=True))
    logits_type = LOGITS_TYPES[type_code]
    reader = ArrayReader(data, path.name)
    raw = reader.take(FLOAT if logits_type == "fp32" else "<u2", (sizes["B"], sizes["W"], sizes["V"]))
    inputs, outputs = (
        {name: reader.take(kind, tuple(sizes[letter] for letter in letters)) for name, kind, letters in layout}
        for layout in (INPUTS, OUTPUTS)
    )
    if reader.offset != len(data):
        raise ValueError(f"{path.name}: has {len(data)} bytes, its header asks for {reader.offset}")
    return UnmaskCase(
        UnmaskInputs(logits=unpack_logits(raw, logits_type), **inputs), UnmaskOutputs(**outputs), mask_token_id, sizes["K"], logits_type
    )
