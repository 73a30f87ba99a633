"""Linear layers whose weights are halves in the file and float32 in memory."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import TensorProto

from ..graph.builder import GraphBuilder
from ..weights import LinearWeight, StackedWeight
from .float_types import FloatType, stored_matrix, stored_stack


@dataclass(frozen=True)
class StoredHalfLinear:
    """Cast, then MatMul in float32.

    A Cast of a constant is folded when ONNX Runtime loads the graph, so a step costs what it costs in fp32. Without the Cast its CPU
    provider would put casts around every MatMul of halves anyway, and would do them anew in every step.
    """

    kind: FloatType

    def write(self, b: GraphBuilder, x: str, weight: LinearWeight, *, like: str | None) -> str:
        """See `LinearWriter.write`."""
        matrix = b.op("Cast", [stored_matrix(b, weight, self.kind)], f"{weight.node}.weight_float", to=TensorProto.FLOAT)
        return b.op("MatMul", [x, matrix], weight.node)

    def write_stacked(self, b: GraphBuilder, x: str, weight: StackedWeight) -> str:
        """See `LinearWriter.write_stacked`."""
        stack = b.op("Cast", [stored_stack(b, weight, self.kind)], f"{weight.node}.weight_float", to=TensorProto.FLOAT)
        return b.op("MatMul", [x, stack], weight.node)
