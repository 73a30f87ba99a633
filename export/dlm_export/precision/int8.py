"""8-bit linear layers: weights per output channel, activations per token row while running.

A row's scale comes from that row alone. A scale for the whole tensor would be cheaper, but then a line's words would depend on who else
is in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..graph.builder import GraphBuilder
from ..weights import LinearWeight

# Processors without VNNI add pairs of uint8 * int8 products in saturating 16 bits: 2 * 255 * 64 still fits, 2 * 255 * 127 would not and
# the same bundle would speak differently on an older machine. (uint8 * uint8 is exact everywhere too, but measured 1.3 to 2 times slower.)
WEIGHT_LIMIT = 64
ROW_LIMIT = 127
ROW_ZERO_POINT = 128
SMALLEST_PEAK = 1e-12  # keeps the scale of an all-zero row above zero


@dataclass(frozen=True)
class QuantizedWeight:
    """`values` int8 [in, out], `scales` float32 [out]: weight = values * scales."""

    values: NDArray[np.int8]
    scales: NDArray[np.float32]


def quantize_weight(matrix: NDArray[np.float32]) -> QuantizedWeight:
    """Symmetric, one scale per output channel (column)."""
    scales = np.maximum(np.abs(matrix).max(axis=0), SMALLEST_PEAK).astype(np.float32) / np.float32(WEIGHT_LIMIT)
    values = np.rint(matrix / scales).clip(-WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8)
    return QuantizedWeight(values, scales)


class Int8Linear:
    """x -> uint8 with zero point 128 and a scale per row -> MatMulInteger -> float32."""

    def write(self, b: GraphBuilder, x: str, weight: LinearWeight) -> str:
        """See `LinearWriter.write`."""
        at = weight.node
        quantized = quantize_weight(weight.matrix)
        values = b.weight(f"{weight.initializer}.int8", quantized.values)
        scales = b.weight(f"{weight.initializer}.scale", quantized.scales)
        magnitude = b.op("Abs", [x], f"{at}.magnitude")
        peak = b.op("ReduceMax", [magnitude, b.constant([-1])], f"{at}.peak", keepdims=1)
        safe_peak = b.op("Max", [peak, b.constant(SMALLEST_PEAK)], f"{at}.safe_peak")
        row_scale = b.op("Mul", [safe_peak, b.constant(1.0 / ROW_LIMIT)], f"{at}.row_scale")  # [..., 1]
        steps = b.op("Div", [x, row_scale], f"{at}.steps")
        rounded = b.op("Round", [steps], f"{at}.rounded")
        shifted = b.op("Add", [rounded, b.constant(float(ROW_ZERO_POINT))], f"{at}.shifted")
        row = b.op("Cast", [shifted], f"{at}.row_uint8", to=2)
        zero_point = b.constant(np.array(ROW_ZERO_POINT, np.uint8))
        product = b.op("MatMulInteger", [row, values, zero_point], f"{at}.product")
        product_float = b.op("Cast", [product], f"{at}.product_float", to=1)
        by_row = b.op("Mul", [product_float, row_scale], f"{at}.by_row")
        return b.op("Mul", [by_row, scales], at)
