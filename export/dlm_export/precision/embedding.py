"""How the embedding table is stored and looked up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ..graph.builder import GraphBuilder
from ..weights import Floats
from .float_types import FP32, FloatType
from .rounding import INT8_LIMIT, SMALLEST_PEAK, row_chunks


class EmbeddingWriter(Protocol):
    """Writes the look-up of token embeddings."""

    def write(self, b: GraphBuilder, key: str, table: Floats, ids: str, value: str) -> str:
        """Append the nodes that take rows of `table` [V, D], stored as `key`, by `ids` [B, L], and return `value`, float32 [B, L, D]."""
        ...


@dataclass(frozen=True)
class StoredEmbedding:
    """One Gather, and for halves a Cast of the rows that were taken."""

    kind: FloatType = FP32

    def write(self, b: GraphBuilder, key: str, table: Floats, ids: str, value: str) -> str:
        """See `EmbeddingWriter.write`."""
        stored = b.weight(key, self.kind.narrowed(table, key))
        if self.kind is FP32:
            return b.op("Gather", [stored, ids], value)
        rows = b.op("Gather", [stored, ids], f"{value}.{self.kind.name}")
        return b.op("Cast", [rows], value, to=TensorProto.FLOAT)


def quantize_rows(table: Floats) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric, one scale per row: values int8 [V, D] and scales float32 [V, 1]."""
    values = np.empty(table.shape, np.int8)
    scales = np.empty((len(table), 1), np.float32)
    for rows in row_chunks(*table.shape):
        peaks = np.abs(table[rows]).max(axis=1, keepdims=True)
        scales[rows] = np.maximum(peaks, SMALLEST_PEAK) / np.float32(INT8_LIMIT)
        values[rows] = np.rint(table[rows] / scales[rows])
    return values, scales


@dataclass(frozen=True)
class Int8Embedding:
    """Gather of int8 rows and of their scales."""

    def write(self, b: GraphBuilder, key: str, table: Floats, ids: str, value: str) -> str:
        """See `EmbeddingWriter.write`."""
        values, scales = quantize_rows(table)
        rows = b.op("Gather", [b.weight(f"{key}.rows_int8", values), ids], f"{value}.int8")
        floats = b.op("Cast", [rows], f"{value}.unscaled", to=TensorProto.FLOAT)
        scale = b.op("Gather", [b.weight(f"{key}.row_scale", scales), ids], f"{value}.scale")  # [B, L, 1]
        return b.op("Mul", [floats, scale], value)


@dataclass(frozen=True)
class DequantizedEmbedding:
    """DequantizeLinear, then Gather: TensorRT takes 8-bit constants in no other form."""

    def write(self, b: GraphBuilder, key: str, table: Floats, ids: str, value: str) -> str:
        """See `EmbeddingWriter.write`."""
        values, scales = quantize_rows(table)
        stored = [b.weight(f"{key}.rows_int8", values), b.weight(f"{key}.row_scale", scales[:, 0])]
        return b.op("Gather", [b.op("DequantizeLinear", stored, f"{value}.table", axis=0), ids], value)
