"""The feed-forward that every token takes, and the mixture of experts beside it."""

from __future__ import annotations

import numpy as np

from ....graph import gated_mlp
from ....graph.activation import Activation
from ....graph.context import GraphContext
from ....graph.norm import rms_norm
from ...denoiser.graph.experts import mix_experts, top
from ..config import DiffusionGemmaConfig

ACTIVATION: Activation = "gelu_tanh"


def build_gated_mlp(g: GraphContext, at: str, x: str, size: int, *, rows: bool = False) -> str:
    """The feed-forward with this network's activation."""
    return gated_mlp.build_gated_mlp(g, at, x, size, ACTIVATION, rows=rows)


def build_mixture(g: GraphContext, config: DiffusionGemmaConfig, layer: int, routed: str, x: str) -> str:
    """The mixture of `x` [N, D] -> [N, D]; the router judges by `routed` [N, D]."""
    at = f"layers.{layer}"

    def mlp(rows: str) -> str:
        own, size, count = f"{at}.experts", config.expert_size, config.experts
        return gated_mlp.build_experts_mlp(g, own, rows, size, ACTIVATION, count=count, gate_up=lambda e: [f"{own}.{e}.gate_up_proj"])

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
