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
    """Rows to uint8 with zero point 128 and a scale each -> MatMulInteger -> float32.

    QuantizeLinear and DequantizeLinear along axis 0 take all tokens of the batch as one list of rows; each is one pass over the data,
    where Div, Round, Add, Cast and Mul would be six.
    """

    def write(self, b: GraphBuilder, x: str, weight: LinearWeight, *, like: str) -> str:
        """See `LinearWriter.write`."""
        at = weight.node
        size_in, size_out = weight.matrix.shape
        quantized = quantize_weight(weight.matrix)
        values = b.weight(f"{weight.initializer}.int8", quantized.values)
        scales = b.weight(f"{weight.initializer}.scale", quantized.scales)
        rows = b.op("Reshape", [x, b.constant([-1, size_in])], f"{at}.rows")  # [N, in]
        row_scale = self._row_scale(b, rows, at)  # [N]
        zero_point = b.constant(np.array(ROW_ZERO_POINT, np.uint8))
        counts = b.shared("Shape", [like], f"{like}.counts")  # [2], holding B and n
        zero_points_by_token = b.shared("Expand", [zero_point, counts], f"{like}.zero_points_by_token")
        zero_points = b.shared("Reshape", [zero_points_by_token, b.constant([-1])], f"{like}.zero_points")  # [N]
        row = b.op("QuantizeLinear", [rows, row_scale, zero_points], f"{at}.rows_uint8", axis=0)
        product = b.op("MatMulInteger", [row, values, zero_point], f"{at}.product")  # int32 [N, out]
        by_row = b.op("DequantizeLinear", [product, row_scale], f"{at}.by_row", axis=0)
        scaled = b.op("Mul", [by_row, scales], f"{at}.scaled")
        shape = b.shared("Concat", [counts, b.constant([size_out])], f"{like}.counts_by_{size_out}", axis=0)
        return b.op("Reshape", [scaled, shape], at)

    def _row_scale(self, b: GraphBuilder, rows: str, at: str) -> str:
        """What one step of a row's uint8 is worth, [N]."""
        magnitude = b.op("Abs", [rows], f"{at}.magnitude")
        peak = b.op("ReduceMax", [magnitude, b.constant([-1])], f"{at}.peak", keepdims=0)
        safe_peak = b.op("Max", [peak, b.constant(SMALLEST_PEAK)], f"{at}.safe_peak")
        return b.op("Mul", [safe_peak, b.constant(1.0 / ROW_LIMIT)], f"{at}.row_scale")
