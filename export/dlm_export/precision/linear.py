"""The one decision a precision makes: which nodes a linear layer becomes."""

from __future__ import annotations

from typing import Protocol

from ..graph.builder import GraphBuilder
from ..weights import LinearWeight


class LinearWriter(Protocol):
    """Writes linear layers without bias."""

    def write(self, b: GraphBuilder, x: str, weight: LinearWeight) -> str:
        """Append the nodes for `x` [..., in] @ `weight` and return the name of the result, which is `weight.node`."""
        ...
