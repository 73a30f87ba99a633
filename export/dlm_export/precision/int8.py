"""8-bit linear layers: weights per output channel, activations per token row while running.

A row's scale comes from that row alone. A scale for the whole tensor would be cheaper, but then a line's words would depend on who else
is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ..graph.builder import GraphBuilder
from ..weights import LinearWeight, StackedWeight
from .rounding import SMALLEST_PEAK, row_chunks

# Processors without VNNI add pairs of uint8 * int8 products in saturating 16 bits: 2 * 255 * 64 still fits, 2 * 255 * 127 would not and
# the same bundle would speak differently on an older machine. (uint8 * uint8 is exact everywhere too, but measured 1.3 to 2 times slower.)
WEIGHT_LIMIT = 64
ROW_LIMIT = 127
ROW_ZERO_POINT = 128


@dataclass(frozen=True)
class QuantizedWeight:
    """`values` int8 [in, out], `scales` float32 [out]: weight = values * scales."""

    values: NDArray[np.int8]
    scales: NDArray[np.float32]


def quantize_weight(matrix: NDArray[np.float32]) -> QuantizedWeight:
    """Symmetric, one scale per output channel (column)."""
    values = np.empty(matrix.shape, np.int8)
    scales = np.empty(matrix.shape[1], np.float32)
    for columns in row_chunks(*matrix.shape[::-1]):
        part = matrix[:, columns]
        scales[columns] = np.maximum(np.abs(part).max(axis=0), SMALLEST_PEAK) / np.float32(WEIGHT_LIMIT)
        values[:, columns] = np.rint(part / scales[columns]).clip(-WEIGHT_LIMIT, WEIGHT_LIMIT)
    return QuantizedWeight(values, scales)


class Int8Linear:
    """Rows to uint8 with zero point 128 and a scale each -> MatMulInteger -> float32.

    QuantizeLinear and DequantizeLinear along axis 0 take all tokens of the batch as one list of rows; each is one pass over the data,
    where Div, Round, Add, Cast and Mul would be six.
    """

    def write(self, b: GraphBuilder, x: str, weight: LinearWeight, *, like: str | None) -> str:
        """See `LinearWriter.write`."""
        if like is None:
            return self._rows(b, x, weight, weight.node, like)
        at = weight.node
        size_in, size_out = weight.matrix.shape
        rows = b.op("Reshape", [x, b.constant([-1, size_in])], f"{at}.rows")  # [N, in]
        scaled = self._rows(b, rows, weight, f"{at}.scaled", like)
        counts = b.shared("Shape", [like], f"{like}.counts")  # [2], holding B and n
        shape = b.shared("Concat", [counts, b.constant([size_out])], f"{like}.counts_by_{size_out}", axis=0)
        return b.op("Reshape", [scaled, shape], at)

    def write_stacked(self, b: GraphBuilder, x: str, weight: StackedWeight) -> str:
        """See `LinearWriter.write_stacked`."""
        at, scales = weight.node, []

        def rounded() -> Iterator[NDArray[np.int8]]:
            for matrix in weight.matrices():
                quantized = quantize_weight(matrix)
                scales.append(quantized.scales[None])
                yield quantized.values

        values = b.stacked_weight(f"{weight.initializer}.int8", rounded(), weight.shape, TensorProto.INT8)
        scale = b.weight(f"{weight.initializer}.scale", np.stack(scales))  # [E, 1, out]
        rows = b.op("Reshape", [x, b.constant([-1, weight.size_in])], f"{at}.rows")  # [E * C, in]
        row, row_scale = self._rounded_rows(b, rows, at, None)
        by_expert = b.op("Reshape", [row, b.op("Shape", [x], f"{at}.counts")], f"{at}.rows_by_expert")  # [E, C, in]
        product = b.op("MatMulInteger", [by_expert, values, b.constant(np.array(ROW_ZERO_POINT, np.uint8))], f"{at}.product_int32")
        flat = b.op("Reshape", [product, b.constant([-1, weight.size_out])], f"{at}.product_rows")  # [E * C, out]
        by_row = b.op("DequantizeLinear", [flat, row_scale], f"{at}.by_row", axis=0)
        unscaled = b.op("Reshape", [by_row, b.op("Shape", [product], f"{at}.product_counts")], f"{at}.unscaled")
        return b.op("Mul", [unscaled, scale], at)

    def _rows(self, b: GraphBuilder, rows: str, weight: LinearWeight, result: str, like: str | None) -> str:
        """`rows` [N, in] -> `result` [N, out]."""
        at = weight.node
        quantized = quantize_weight(weight.matrix)
        values = b.weight(f"{weight.initializer}.int8", quantized.values)
        scales = b.weight(f"{weight.initializer}.scale", quantized.scales)
        row, row_scale = self._rounded_rows(b, rows, at, like)
        zero_point = b.constant(np.array(ROW_ZERO_POINT, np.uint8))
        product = b.op("MatMulInteger", [row, values, zero_point], f"{at}.product_int32")  # [N, out]
        by_row = b.op("DequantizeLinear", [product, row_scale], f"{at}.by_row", axis=0)
        return b.op("Mul", [by_row, scales], result)

    def _rounded_rows(self, b: GraphBuilder, rows: str, at: str, like: str | None) -> tuple[str, str]:
        """`rows` [N, in] as uint8, and what one step of each is worth, [N]."""
        row_scale = self._row_scale(b, rows, at, like)
        zero_points = self._zero_points(b, b.constant(np.array(ROW_ZERO_POINT, np.uint8)), row_scale, at, like)
        return b.op("QuantizeLinear", [rows, row_scale, zero_points], f"{at}.rows_uint8", axis=0), row_scale

    def _zero_points(self, b: GraphBuilder, zero_point: str, row_scale: str, at: str, like: str | None) -> str:
        """The zero point once for every row, [N]; made once for all layers that share their rows' number."""
        if like is None:
            count = b.op("Shape", [row_scale], f"{at}.row_count")
            return b.op("Expand", [zero_point, count], f"{at}.zero_points")
        counts = b.shared("Shape", [like], f"{like}.counts")
        by_token = b.shared("Expand", [zero_point, counts], f"{like}.zero_points_by_token")
        return b.shared("Reshape", [by_token, b.constant([-1])], f"{like}.zero_points")

    def _row_scale(self, b: GraphBuilder, rows: str, at: str, like: str | None) -> str:
        """What one step of a row's uint8 is worth, [N]."""
        magnitude = b.op("Abs", [rows], f"{at}.magnitude")
        if like is None:
            # ONNX Runtime's ReduceMax gives no rows back in the shape they came in, which then fits no buffer; its pooling is right.
            plane = b.unsqueeze(magnitude, [1], f"{at}.plane")  # [N, 1, in]
            peak = b.op("Squeeze", [b.op("GlobalMaxPool", [plane], f"{at}.pooled"), b.constant([1, 2])], f"{at}.peak")
        else:
            peak = b.op("ReduceMax", [magnitude, b.constant([-1])], f"{at}.peak", keepdims=0)
        safe_peak = b.op("Max", [peak, b.constant(float(SMALLEST_PEAK))], f"{at}.safe_peak")
        return b.op("Mul", [safe_peak, b.constant(1.0 / ROW_LIMIT)], f"{at}.row_scale")
