"""What stands before the head of masked language modelling, but for its norm."""

from __future__ import annotations

from ...graph.activation import Activation, build_activation
from ...graph.context import GraphContext


def build_transform(g: GraphContext, x: str, activation: Activation, *, bias: bool) -> str:
    """The dense layer `transform` and its activation on the window's positions, [B, W, D] -> [B, W, D]."""
    b = g.b
    # Written for loose rows, because a layer of [B, L, D] takes its shape from L, and here are W positions.
    rows = b.op("Reshape", [x, b.constant([-1, g.backbone.hidden_size])], "transform.rows")
    dense = build_activation(b, g.linear("transform", rows, bias=bias, rows=True), "transform.activation", activation)
    return b.op("Reshape", [dense, b.op("Shape", [x], "transform.counts")], "transform.by_position")
