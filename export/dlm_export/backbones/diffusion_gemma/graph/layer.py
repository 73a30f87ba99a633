"""One layer: attention, then feed-forward and mixture of experts side by side, with norms before and after every part."""

from __future__ import annotations

from ....graph.context import GraphContext
from ....graph.norm import build_rms_norm
from ....graph.rotary import RotaryTables
from ..config import DiffusionGemmaConfig
from .feed_forward import build_gated_mlp, build_mixture
from .inputs import Roles
from .self_attention import build_self_attention


def build_layer(g: GraphContext, config: DiffusionGemmaConfig, layer: int, x: str, rotary: RotaryTables, bias: str, roles: Roles) -> str:
    """`x` [B, L, D] -> [B, L, D], scaled by the layer's number for the row's role."""
    b, at = g.b, f"layers.{layer}"
    attended = build_self_attention(g, config, layer, norm(g, config, f"{at}.input_layernorm", x), rotary, bias)
    x = b.op("Add", [x, norm(g, config, f"{at}.post_attention_layernorm", attended)], f"{at}.after_attention")
    fed_forward = norm(g, config, f"{at}.post_feedforward_layernorm", build_feed_forward(g, config, layer, x))
    x = b.op("Add", [x, fed_forward], f"{at}.after_mlp")
    scalar = roles.choose(b, g.vector(f"{at}.encoder_layer_scalar"), g.vector(f"{at}.layer_scalar"), f"{at}.scalar")  # [B, 1, 1]
    return b.op("Mul", [x, scalar], f"{at}.scaled")


def build_feed_forward(g: GraphContext, config: DiffusionGemmaConfig, layer: int, x: str) -> str:
    """What every token takes plus what its experts say, each normed; the router reads `x` under a norm of its own."""
    b, at = g.b, f"layers.{layer}"
    common = build_gated_mlp(g, f"{at}.mlp", norm(g, config, f"{at}.pre_feedforward_layernorm", x), config.intermediate_size)
    rows = b.op("Reshape", [x, b.constant([-1, config.hidden_size])], f"{at}.rows")  # [N, D]
    mixed = build_mixture(g, config, layer, rows, norm(g, config, f"{at}.pre_feedforward_layernorm_2", rows))
    special = b.op("Reshape", [mixed, b.op("Shape", [x], f"{at}.shape")], f"{at}.mixed")
    normed = [norm(g, config, f"{at}.post_feedforward_layernorm_{index}", part) for index, part in ((1, common), (2, special))]
    return b.op("Add", normed, f"{at}.fed_forward")


def norm(g: GraphContext, config: DiffusionGemmaConfig, name: str, x: str) -> str:
    """RMS norm at the network's epsilon."""
    return build_rms_norm(g, name, x, config.norm_eps)
