"""Logits in the three types they come in, with numpy alone: numpy has no bfloat16, but it is the upper half of a float32."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

LogitsType = Literal["fp32", "fp16", "bf16"]
LOGITS_TYPES: tuple[LogitsType, ...] = ("fp32", "fp16", "bf16")  # their place is their code in a file


def bfloat16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Rounded to the nearest bfloat16, ties to even. No NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def raw_logits(values: NDArray[np.float32], logits_type: LogitsType) -> NDArray[Any]:
    """float32, or the 16 bits of each value as uint16."""
    if logits_type == "fp32":
        return values.astype("<f4")
    return values.astype("<f2").view("<u2") if logits_type == "fp16" else bfloat16_bits(values).astype("<u2")


def pack_logits(values: NDArray[np.float32], logits_type: LogitsType) -> bytes:
    """The bytes in a case file."""
    return raw_logits(values, logits_type).tobytes()


def unpack_logits(raw: NDArray[Any], logits_type: LogitsType) -> NDArray[np.float32]:
    """`raw_logits` backwards: float32 values, exact."""
    if logits_type == "fp32":
        return raw.astype(np.float32)
    if logits_type == "fp16":
        return raw.view(np.float16).astype(np.float32)
    return (raw.astype(np.uint32) << 16).view(np.float32)


def rounded(values: NDArray[np.float32], logits_type: LogitsType) -> NDArray[np.float32]:
    """What is left of `values` in that type, as float32."""
    return unpack_logits(raw_logits(values, logits_type), logits_type)
