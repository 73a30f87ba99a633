"""Norms, always in float32."""

from __future__ import annotations

from .context import GraphContext


def build_rms_norm(g: GraphContext, name: str, x: str, eps: float) -> str:
    """Root-mean-square norm with weight `{name}.weight` over the last axis."""
    return rms_norm(g, x, g.vector(f"{name}.weight"), eps, name)


def rms_norm(g: GraphContext, x: str, weight: str | None, eps: float, name: str) -> str:
    """The same with any weight that broadcasts, or none; in the very shape that ONNX Runtime recognises and runs as one node."""
    b = g.b
    square = b.op("Pow", [x, b.constant(2.0)], f"{name}.square")
    mean = b.op("ReduceMean", [square, b.constant([-1])], f"{name}.mean_square", keepdims=1)
    shifted = b.op("Add", [mean, b.constant(eps)], f"{name}.mean_square_eps")
    root = b.op("Sqrt", [shifted], f"{name}.root")
    normed = b.op("Div", [x, root], f"{name}.normed" if weight else name)
    return b.op("Mul", [normed, weight], name) if weight else normed


def build_layer_norm(g: GraphContext, name: str, x: str, eps: float, *, bias: bool) -> str:
    """Layer norm over the last axis with weight `{name}.weight` and, where `bias` says so, `{name}.bias`."""
    inputs = [x, g.vector(f"{name}.weight"), *([g.vector(f"{name}.bias")] if bias else [])]
    return g.b.op("LayerNormalization", inputs, name, axis=-1, epsilon=eps)
