"""Weights in 4 or 8 bits and products in halves, for TensorRT: DequantizeLinear before a MatMul."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from ..graph.builder import GraphBuilder
from ..weights import Floats, LinearWeight, StackedWeight
from .blocks import BLOCK, DEQUANTIZE_OPSET, SMALLEST_SCALE, packed, quantize_blocks, stored_blocks, whole_blocks
from .float_types import FP16
from .half import half_product, narrow_input
from .rounding import INT8_LIMIT, row_chunks


@dataclass(frozen=True)
class Int8WeightLinear:
    """int8 weights with one scale per output."""

    def write(self, b: GraphBuilder, x: str, weight: LinearWeight, *, like: str | None) -> str:
        """See `LinearWriter.write`."""
        b.require_opset(DEQUANTIZE_OPSET)
        values, scales = quantize_columns(weight.matrix)
        stored = [b.weight(f"{weight.initializer}.int8", values), b.weight(f"{weight.initializer}.scale", scales)]
        matrix = b.op("DequantizeLinear", stored, f"{weight.node}.weight", axis=1)
        return half_product(b, narrow_input(b, x, FP16), matrix, weight.node)

    def write_stacked(self, b: GraphBuilder, x: str, weight: StackedWeight) -> str:
        """See `LinearWriter.write_stacked`. A scale for each output of each expert makes blocks as long as the input."""
        b.require_opset(DEQUANTIZE_OPSET)
        scales: list[np.ndarray] = []

        def rounded() -> Iterator[np.ndarray]:
            for matrix in weight.matrices():
                values, scale = quantize_columns(matrix)
                scales.append(scale[None])
                yield values

        values = b.stacked_weight(f"{weight.initializer}.int8", rounded(), weight.shape, TensorProto.INT8)
        scale = b.weight(f"{weight.initializer}.scale", np.stack(scales))  # [E, 1, out]
        stack = b.op("DequantizeLinear", [values, scale], f"{weight.node}.weight", axis=1, block_size=weight.size_in)
        return half_product(b, narrow_input(b, x, FP16), stack, weight.node)


def quantize_columns(matrix: Floats) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric: values int8 [in, out] and scales float16 [out]."""
    values = np.empty(matrix.shape, np.int8)
    scales = np.empty(matrix.shape[1], np.float16)
    for columns in row_chunks(*matrix.shape[::-1]):
        part = matrix[:, columns]
        scales[columns] = FP16.narrowed(np.maximum(np.abs(part).max(axis=0) / INT8_LIMIT, SMALLEST_SCALE), "scale")
        values[:, columns] = np.rint(part / scales[columns].astype(np.float32)).clip(-INT8_LIMIT, INT8_LIMIT)
    return values, scales


@dataclass(frozen=True)
class Int4WeightLinear:
    """int4 weights in blocks of 32 inputs.

    TensorRT takes a block's size from the shapes, so inputs are filled up with zeros to whole blocks.
    """

    def write(self, b: GraphBuilder, x: str, weight: LinearWeight, *, like: str | None) -> str:
        """See `LinearWriter.write`."""
        b.require_opset(DEQUANTIZE_OPSET)
        size_in, size_out = weight.matrix.shape
        rounded = quantize_blocks(weight.matrix, np.float16)
        padded_in = rounded.blocks * BLOCK
        by_input = np.ascontiguousarray(rounded.values.reshape(size_out, padded_in).T)  # [in, out]
        values = b.packed_weight(f"{weight.initializer}.int4", packed(by_input.reshape(-1)), (padded_in, size_out), TensorProto.INT4)
        scales = b.weight(f"{weight.initializer}.block_scale", np.ascontiguousarray(rounded.scales.T))
        matrix = b.op("DequantizeLinear", [values, scales], f"{weight.node}.weight", axis=0, block_size=BLOCK)
        halves = whole_blocks(b, narrow_input(b, x, FP16), size_in, np.array(0, np.float16), f"{weight.node}.whole_blocks")
        return half_product(b, halves, matrix, weight.node)

    def write_stacked(self, b: GraphBuilder, x: str, weight: StackedWeight) -> str:
        """See `LinearWriter.write_stacked`."""
        stack = stored_blocks(b, weight, np.float16)
        halves = whole_blocks(b, narrow_input(b, x, FP16), weight.size_in, np.array(0, np.float16), f"{weight.node}.whole_blocks")
        return half_product(b, halves, stack, weight.node)
