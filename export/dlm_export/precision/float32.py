"""Plain 32-bit linear layers."""

from __future__ import annotations

from ..graph.builder import GraphBuilder
from ..weights import LinearWeight, StackedWeight
from .float_types import FP32, stored_matrix, stored_stack


class Float32Linear:
    """One MatMul by the transposed weight."""

    def write(self, b: GraphBuilder, x: str, weight: LinearWeight, *, like: str | None) -> str:
        """See `LinearWriter.write`."""
        return b.op("MatMul", [x, stored_matrix(b, weight, FP32)], weight.node)

    def write_stacked(self, b: GraphBuilder, x: str, weight: StackedWeight) -> str:
        """See `LinearWriter.write_stacked`."""
        return b.op("MatMul", [x, stored_stack(b, weight, FP32)], weight.node)
