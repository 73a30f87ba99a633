"""Rounding a weight to 4 bits, in blocks of inputs that share a scale. It needs the weight alone, no text to calibrate on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from onnx import TensorProto

from ..graph.builder import GraphBuilder
from ..weights import StackedWeight
from .rounding import row_chunks

BLOCK = 32
DEQUANTIZE_OPSET = 21  # the first whose DequantizeLinear has blocks, 4-bit integers and scales in halves
LOWEST, HIGHEST = -8, 7
SMALLEST_SCALE = 2.0**-24  # the smallest half above zero
# Cutting off the outermost numbers, or leaving the last step unused, often rounds the others better than the peak's own scale does.
SCALE_TRIALS = (1.0, 1.07, 0.95, 0.9, 0.85, 0.8)


@dataclass(frozen=True)
class BlockWeight:
    """weight[k, n] = values[n, k // 32, k % 32] * scales[n, k // 32]; values past the last input are 0."""

    values: NDArray[np.int8]  # [out, blocks, 32], -8 .. 7
    scales: NDArray[np.floating]  # [out, blocks]

    @property
    def blocks(self) -> int:
        """Blocks per output."""
        return self.scales.shape[1]


def quantize_blocks(matrix: NDArray[np.float32], scale_type: DTypeLike = np.float32) -> BlockWeight:
    """Round `matrix` [in, out] symmetrically, each block by the scale, of those tried, that leaves the smallest squared error.

    Zero points were tried too and did not agree better with the unrounded model, and TensorRT has none.
    """
    size_in, size_out = matrix.shape
    count = -(-size_in // BLOCK)
    values = np.empty((size_out, count, BLOCK), np.int8)
    scales = np.empty((size_out, count), scale_type)
    for outputs in row_chunks(size_out, count * BLOCK):
        part = np.zeros((outputs.stop - outputs.start, count * BLOCK), np.float32)
        part[:, :size_in] = matrix[:, outputs].T
        values[outputs], scales[outputs] = round_blocks(part.reshape(-1, count, BLOCK), scale_type)
    return BlockWeight(values, scales)


def round_blocks(part: NDArray[np.float32], scale_type: DTypeLike) -> tuple[NDArray[np.int8], NDArray[np.floating]]:
    """Values int8 like `part` [n, blocks, 32], and scales [n, blocks]."""
    # The number farthest from zero takes the longer side, -8, so its sign is the opposite of the scale's.
    farthest = np.abs(part).argmax(axis=-1)
    peaks = np.take_along_axis(part, farthest[..., None], axis=-1)[..., 0]
    best_values = np.zeros(part.shape, np.int8)
    best_scales = np.full(peaks.shape, SMALLEST_SCALE, scale_type)
    best_errors = np.full(peaks.shape, np.inf, np.float32)
    for trial in SCALE_TRIALS:
        scales = nonzero(peaks * np.float32(trial / LOWEST)).astype(scale_type)
        wide = scales.astype(np.float32)[..., None]
        values = np.divide(part, wide)
        np.clip(np.rint(values, out=values), LOWEST, HIGHEST, out=values)
        difference = values * wide
        difference -= part
        errors = np.einsum("nbk,nbk->nb", difference, difference)
        better = errors < best_errors
        best_values[better] = values[better]
        best_scales[better] = scales[better]
        best_errors[better] = errors[better]
    return best_values, best_scales


def nonzero(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scales no smaller than what a half can hold, signs kept."""
    small = np.abs(scales) < SMALLEST_SCALE
    return np.where(small, np.copysign(np.float32(SMALLEST_SCALE), scales), scales)


def packed(nibbles: NDArray[Any]) -> NDArray[np.uint8]:
    """Two 4-bit numbers, in the low halves of bytes, to a byte along the last axis, the first one low; the axis must be even."""
    bits = nibbles.view(np.uint8) & np.uint8(0x0F)
    return (bits[..., 0::2] | (bits[..., 1::2] << np.uint8(4))).astype(np.uint8, copy=False)


def stored_blocks(b: GraphBuilder, weight: StackedWeight, scale_type: DTypeLike) -> str:
    """The layers of all experts, rounded, as the value that DequantizeLinear makes of them: [E, whole blocks of inputs, out]."""
    padded_in = -(-weight.size_in // BLOCK) * BLOCK
    scales: list[NDArray[np.floating]] = []

    def rounded() -> Iterator[NDArray[np.uint8]]:
        for matrix in weight.matrices():
            blocks = quantize_blocks(matrix, scale_type)
            scales.append(blocks.scales.T)
            yield packed(np.ascontiguousarray(blocks.values.reshape(weight.size_out, padded_in).T).reshape(-1))

    b.require_opset(DEQUANTIZE_OPSET)
    shape = (weight.count, padded_in, weight.size_out)
    values = b.stacked_weight(f"{weight.initializer}.int4", rounded(), shape, TensorProto.INT4)
    scale = b.weight(f"{weight.initializer}.block_scale", np.stack(scales))  # [E, blocks, out]
    return b.op("DequantizeLinear", [values, scale], f"{weight.node}.weight", axis=1, block_size=BLOCK)


def whole_blocks(b: GraphBuilder, x: str, size_in: int, zero: NDArray[Any], name: str) -> str:
    """`x` [..., in] filled up with zeros to whole blocks."""
    missing = -size_in % BLOCK
    return b.op("Pad", [x, b.constant([0, missing]), b.constant(zero), b.constant([-1])], name) if missing else x
