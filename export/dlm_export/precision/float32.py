"""Plain 32-bit linear layers."""

from __future__ import annotations

from ..graph.builder import GraphBuilder
from ..weights import LinearWeight


class Float32Linear:
    """One MatMul by the transposed weight."""

    def write(self, b: GraphBuilder, x: str, weight: LinearWeight, *, like: str) -> str:
        """See `LinearWriter.write`."""
        if weight.initializer in b.initializers:
            # A tied head: the embedding table is there already, untransposed, and is not stored twice.
            matrix = b.op("Transpose", [weight.initializer], f"{weight.node}.weight", perm=[1, 0])
        else:
            matrix = b.weight(weight.initializer, weight.matrix)
        return b.op("MatMul", [x, matrix], weight.node)
