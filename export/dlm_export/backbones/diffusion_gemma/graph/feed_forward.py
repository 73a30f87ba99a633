"""The feed-forward that every token takes, and the mixture of experts beside it."""

from __future__ import annotations

import numpy as np

from ....graph.activation import gelu
from ....graph.context import GraphContext
from ....graph.norm import rms_norm
from ...denoiser.graph.experts import mix_experts, top
from ..config import DiffusionGemmaConfig


def build_gated_mlp(g: GraphContext, at: str, x: str, size: int, *, rows: bool = False) -> str:
    """GELU-gated feed-forward, gate and up in one product: [B, L, D] -> [B, L, D], or [N, D] -> [N, D] of loose rows."""
    both = g.fused_linear(f"{at}.gate_up_proj", [f"{at}.gate_proj", f"{at}.up_proj"], x, rows=rows)
    return g.linear(f"{at}.down_proj", gate_up(g, at, both, size), rows=rows)


def gate_up(g: GraphContext, at: str, both: str, size: int) -> str:
    """Gate and up side by side -> their gated product."""
    b = g.b
    gate, up = b.split(both, [size] * 2, [f"{at}.gate", f"{at}.up"])
    return b.op("Mul", [gelu(b, gate, f"{at}.gate_gelu", tanh=True), up], f"{at}.gated")


def build_mixture(g: GraphContext, config: DiffusionGemmaConfig, layer: int, routed: str, x: str) -> str:
    """The mixture of `x` [N, D] -> [N, D]; the router judges by `routed` [N, D]."""
    at = f"layers.{layer}"

    def mlp(rows: str) -> str:
        own = f"{at}.experts"
        both = g.stacked_linear(f"{own}.gate_up_proj", config.experts, lambda e: [f"{own}.{e}.gate_up_proj"], rows)
        gated = gate_up(g, own, both, config.expert_size)
        return g.stacked_linear(f"{own}.down_proj", config.experts, lambda e: [f"{own}.{e}.down_proj"], gated)

    ids, weights = build_router(g, config, f"{at}.router", routed)
    count, per_token = config.experts, config.experts_per_token
    return mix_experts(g, f"{at}.experts", x, ids, weights, count=count, per_token=per_token, mlp=mlp)


def build_router(g: GraphContext, config: DiffusionGemmaConfig, at: str, rows: str) -> tuple[str, str]:
    """`rows` [N, D] -> elected experts int64 [N, k] and their weights float32 [N, k]. Always in float32: a slip here changes who speaks.

    Of a softmax over all experts whose elected shares are made to sum to 1 remains a softmax over the elected.
    """
    b = g.b
    scale = b.weight(g.weights.key(f"{at}.scale"), g.values(f"{at}.scale") * np.float32(config.hidden_size**-0.5))
    normed = rms_norm(g, rows, scale, config.norm_eps, f"{at}.norm")
    transposed = b.op("Transpose", [g.vector(f"{at}.proj.weight")], f"{at}.proj.weight_transposed", perm=[1, 0])
    logits, ids = top(g, b.op("MatMul", [normed, transposed], f"{at}.logits"), config.experts_per_token, f"{at}.elected")
    shares = b.op("Softmax", [logits], f"{at}.shares", axis=-1)
    own_scales = b.op("Gather", [g.vector(f"{at}.per_expert_scale"), ids], f"{at}.own_scales")
    return ids, b.op("Mul", [shares, own_scales], f"{at}.weights")
