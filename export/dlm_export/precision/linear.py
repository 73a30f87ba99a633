"""The one decision a precision makes: which nodes a linear layer becomes."""

from __future__ import annotations

from typing import Protocol

from ..graph.builder import GraphBuilder
from ..weights import LinearWeight, StackedWeight


class LinearWriter(Protocol):
    """Writes linear layers without bias."""

    def write(self, b: GraphBuilder, x: str, weight: LinearWeight, *, like: str | None) -> str:
        """Append the nodes for `x` [B, n, in] @ `weight` and return the name of the result [B, n, out], which is `weight.node`.

        `like` names any value of shape [B, n], from which shapes can be taken once for all layers. Where it is None, `x` is a list of
        rows [N, in] and the result [N, out]; N may be 0.
        """
        ...

    def write_stacked(self, b: GraphBuilder, x: str, weight: StackedWeight) -> str:
        """Append the nodes for `x` [E or 1, C, in] @ `weight` [E, in, out], expert by expert: `weight.node`, float32 [E, C, out]."""
        ...
