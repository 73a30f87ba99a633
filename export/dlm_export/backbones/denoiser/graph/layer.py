"""Feed-forward and one pre-norm decoder layer."""

from __future__ import annotations

from ....graph.context import GraphContext
from ....graph.gated_mlp import build_experts_mlp, build_gated_mlp
from ....graph.norm import build_rms_norm
from ....graph.rotary import RotaryTables
from ..config import DenoiserConfig
from .experts import build_mixture
from .self_attention import build_self_attention


def build_feed_forward(g: GraphContext, config: DenoiserConfig, layer: int, x: str) -> str:
    """Dense, or a mixture of experts with what they share."""
    at, experts = f"layers.{layer}.mlp", config.experts_of(layer)
    if experts is None:
        return build_gated_mlp(g, at, x, config.intermediate_size, "silu", bias=config.mlp_bias)

    def mlp(rows: str) -> str:
        own = f"{at}.experts"
        size, parts = experts.intermediate_size, ("gate_proj", "up_proj")
        return build_experts_mlp(g, own, rows, size, "silu", count=experts.count, gate_up=lambda e: [f"{own}.{e}.{part}" for part in parts])

    mixed = build_mixture(g, experts, at, x, mlp)
    if not experts.shared_size:
        return mixed
    shared = build_gated_mlp(g, f"{at}.shared_experts", x, experts.shared_size, "silu")
    return g.b.op("Add", [mixed, shared], f"{at}.with_shared")


def build_layer(g: GraphContext, config: DenoiserConfig, layer: int, x: str, rotary: RotaryTables, bias: str) -> str:
    """One layer: attention and feed-forward, each added to what came in."""
    at = f"layers.{layer}"
    attended = build_self_attention(g, config, layer, build_rms_norm(g, f"{at}.input_layernorm", x, config.norm_eps), rotary, bias)
    x = g.b.op("Add", [x, attended], f"{at}.after_attention")
    fed_forward = build_feed_forward(g, config, layer, build_rms_norm(g, f"{at}.post_attention_layernorm", x, config.norm_eps))
    return g.b.op("Add", [x, fed_forward], f"{at}.after_mlp")
