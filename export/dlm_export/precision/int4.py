"""4-bit weights for ONNX Runtime."""

from __future__ import annotations

import numpy as np

from ..graph.builder import MICROSOFT, GraphBuilder
from ..weights import LinearWeight, StackedWeight
from .blocks import BLOCK, LOWEST, packed, quantize_blocks, stored_blocks, whole_blocks

INT8_ACTIVATIONS = 4  # accuracy_level: whole-number products of 8-bit activations, one scale per block and row of them


class Int4Linear:
    """One MatMulNBits over blocks of 32 inputs.

    It rounds activations to 8 bits block by block, which costs less accuracy than the weights' rounding does, is faster, and gives a row
    the same numbers in any company; its float32 products are summed otherwise for one row than for several.
    """

    def write(self, b: GraphBuilder, x: str, weight: LinearWeight, *, like: str | None) -> str:
        """See `LinearWriter.write`. The operator takes any rank, no rows at all, and inputs that are no whole blocks."""
        size_in, size_out = weight.matrix.shape
        rounded = quantize_blocks(weight.matrix)
        values = b.weight(f"{weight.initializer}.int4", packed(rounded.values - np.int8(LOWEST)))  # [out, blocks, 16]
        scales = b.weight(f"{weight.initializer}.block_scale", rounded.scales.reshape(-1))
        return b.op(
            "MatMulNBits",
            [x, values, scales],
            weight.node,
            domain=MICROSOFT,
            K=size_in,
            N=size_out,
            bits=4,
            block_size=BLOCK,
            accuracy_level=INT8_ACTIVATIONS,
        )

    def write_stacked(self, b: GraphBuilder, x: str, weight: StackedWeight) -> str:
        """See `LinearWriter.write_stacked`. MatMulNBits knows no stacks: the file is as small, the product is float32."""
        padded = whole_blocks(b, x, weight.size_in, np.array(0, np.float32), f"{weight.node}.whole_blocks")
        return b.op("MatMul", [padded, stored_blocks(b, weight, np.float32)], weight.node)
