"""Linear layers that multiply in halves, for targets with tensor cores."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import TensorProto

from ..graph.builder import GraphBuilder
from ..weights import LinearWeight, StackedWeight
from .float_types import FloatType, stored_matrix, stored_stack


def narrow_input(b: GraphBuilder, x: str, kind: FloatType) -> str:
    """`x` in halves, once for all layers that read it."""
    return b.shared("Cast", [x], f"{x}.{kind.name}", to=kind.onnx)


def half_product(b: GraphBuilder, x: str, matrix: str, node: str) -> str:
    """A product of two values of the same half type, as float32 called `node`."""
    return b.op("Cast", [b.op("MatMul", [x, matrix], f"{node}.half")], node, to=TensorProto.FLOAT)


@dataclass(frozen=True)
class HalfLinear:
    """Cast to half, MatMul, Cast back: what lies between layers stays float32."""

    kind: FloatType

    def write(self, b: GraphBuilder, x: str, weight: LinearWeight, *, like: str | None) -> str:
        """See `LinearWriter.write`."""
        return half_product(b, narrow_input(b, x, self.kind), stored_matrix(b, weight, self.kind), weight.node)

    def write_stacked(self, b: GraphBuilder, x: str, weight: StackedWeight) -> str:
        """See `LinearWriter.write_stacked`."""
        return half_product(b, narrow_input(b, x, self.kind), stored_stack(b, weight, self.kind), weight.node)
