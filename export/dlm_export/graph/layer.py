"""RMS norm, gated feed-forward and one pre-norm transformer layer."""

from __future__ import annotations

from .attention import build_attention
from .context import GraphContext
from .rotary import RotaryTables


def build_norm(g: GraphContext, name: str, x: str) -> str:
    """Root-mean-square norm, in the very shape that ONNX Runtime recognises and runs as one node."""
    b = g.b
    key, value = g.weights.vector(name)
    square = b.op("Pow", [x, b.constant(2.0)], f"{name}.square")
    mean = b.op("ReduceMean", [square, b.constant([-1])], f"{name}.mean_square", keepdims=1)
    shifted = b.op("Add", [mean, b.constant(g.config.norm_eps)], f"{name}.mean_square_eps")
    root = b.op("Sqrt", [shifted], f"{name}.root")
    normed = b.op("Div", [x, root], f"{name}.normed")
    return b.op("Mul", [normed, b.weight(key, value)], name)


def build_mlp(g: GraphContext, layer: int, x: str) -> str:
    """SwiGLU feed-forward: gate and up in one product, [B, L, D] -> [B, L, D]."""
    b, at = g.b, f"layers.{layer}.mlp"
    both = g.fused_linear(f"{at}.gate_up_proj", [f"{at}.gate_proj", f"{at}.up_proj"], x)
    gate, up = b.split(both, [g.config.intermediate_size] * 2, [f"{at}.gate", f"{at}.up"])
    sigmoid = b.op("Sigmoid", [gate], f"{at}.gate_sigmoid")
    silu = b.op("Mul", [gate, sigmoid], f"{at}.gate_silu")
    return g.linear(f"{at}.down_proj", b.op("Mul", [silu, up], f"{at}.gated"))


def build_layer(g: GraphContext, layer: int, x: str, rotary: RotaryTables, mask: str) -> str:
    """One layer: attention and feed-forward, each added to what came in."""
    at = f"layers.{layer}"
    attended = build_attention(g, layer, build_norm(g, f"{at}.input_layernorm", x), rotary, mask)
    x = g.b.op("Add", [x, attended], f"{at}.after_attention")
    fed_forward = build_mlp(g, layer, build_norm(g, f"{at}.post_attention_layernorm", x))
    return g.b.op("Add", [x, fed_forward], f"{at}.after_mlp")
