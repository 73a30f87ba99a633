"""Gated feed-forward and one pre-norm decoder layer."""

from __future__ import annotations

from ....graph.activation import silu
from ....graph.context import GraphContext
from ....graph.norm import build_rms_norm
from ..config import DenoiserConfig, Experts
from .experts import build_mixture
from .rotary import RotaryTables
from .self_attention import build_self_attention


def build_gated_mlp(g: GraphContext, at: str, x: str, size: int, *, bias: bool = False) -> str:
    """SwiGLU feed-forward, gate and up in one product: [B, L, D] -> [B, L, D]."""
    b = g.b
    both = g.fused_linear(f"{at}.gate_up_proj", [f"{at}.gate_proj", f"{at}.up_proj"], x, bias=bias)
    gate, up = b.split(both, [size] * 2, [f"{at}.gate", f"{at}.up"])
    return g.linear(f"{at}.down_proj", b.op("Mul", [silu(b, gate, f"{at}.gate_silu"), up], f"{at}.gated"), bias=bias)


def build_experts_mlp(g: GraphContext, at: str, x: str, experts: Experts) -> str:
    """The same of every expert on rows of its own: [E, C, D] -> [E, C, D]."""
    b = g.b
    both = g.stacked_linear(f"{at}.gate_up_proj", experts.count, lambda e: [f"{at}.{e}.gate_proj", f"{at}.{e}.up_proj"], x)
    gate, up = b.split(both, [experts.intermediate_size] * 2, [f"{at}.gate", f"{at}.up"])
    gated = b.op("Mul", [silu(b, gate, f"{at}.gate_silu"), up], f"{at}.gated")
    return g.stacked_linear(f"{at}.down_proj", experts.count, lambda e: [f"{at}.{e}.down_proj"], gated)


def build_feed_forward(g: GraphContext, config: DenoiserConfig, layer: int, x: str) -> str:
    """Dense, or a mixture of experts with what they share."""
    at, experts = f"layers.{layer}.mlp", config.experts_of(layer)
    if experts is None:
        return build_gated_mlp(g, at, x, config.intermediate_size, bias=config.mlp_bias)

    def mlp(rows: str) -> str:
        return build_experts_mlp(g, f"{at}.experts", rows, experts)

    mixed = build_mixture(g, experts, at, x, mlp)
    if not experts.shared_size:
        return mixed
    shared = build_gated_mlp(g, f"{at}.shared_experts", x, experts.shared_size)
    return g.b.op("Add", [mixed, shared], f"{at}.with_shared")


def build_layer(g: GraphContext, config: DenoiserConfig, layer: int, x: str, rotary: RotaryTables, bias: str) -> str:
    """One layer: attention and feed-forward, each added to what came in."""
    at = f"layers.{layer}"
    attended = build_self_attention(g, config, layer, build_rms_norm(g, f"{at}.input_layernorm", x, config.norm_eps), rotary, bias)
    x = g.b.op("Add", [x, attended], f"{at}.after_attention")
    fed_forward = build_feed_forward(g, config, layer, build_rms_norm(g, f"{at}.post_attention_layernorm", x, config.norm_eps))
    return g.b.op("Add", [x, fed_forward], f"{at}.after_mlp")
