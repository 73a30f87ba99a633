"""A layer's attention: projections, norms of queries, keys and values, rotary embedding."""

from __future__ import annotations

import numpy as np

from ....graph.attention import build_attention
from ....graph.context import GraphContext
from ....graph.norm import rms_norm
from ....graph.rotary import RotaryTables, rotate
from ..config import DiffusionGemmaConfig


def build_self_attention(g: GraphContext, config: DiffusionGemmaConfig, layer: int, x: str, rotary: RotaryTables, bias: str) -> str:
    """`x` [B, L, D] -> [B, L, D]. Scores are not scaled: the norm's weight of the queries carries what scale there is."""
    b, at, kind = g.b, f"layers.{layer}.self_attn", config.attention(layer)
    heads, kv_heads, dh = config.heads, kind.kv_heads, kind.head_dim
    parts = "qk" if kind.window is None else "qkv"
    flat = g.fused_linear(f"{at}.{parts}_proj", [f"{at}.{part}_proj" for part in parts], x)
    split_heads = b.op("Reshape", [flat, b.constant([0, 0, -1, dh])], f"{at}.{parts}")
    normed = rms_norm(g, split_heads, None, config.norm_eps, f"{at}.{parts}_norm")
    if kind.window is None:
        qk, v = normed, b.split(normed, [heads, kv_heads], [f"{at}.q_unused", f"{at}.v"], axis=2)[1]
    else:
        qk, v = b.split(normed, [heads + kv_heads, kv_heads], [f"{at}.qk", f"{at}.v"], axis=2)
    weighted = b.op("Mul", [qk, qk_weight(g, heads, kv_heads, at)], f"{at}.qk_weighted")
    q, k = b.split(rotate(b, weighted, rotary, at), [heads, kv_heads], [f"{at}.q_rotated", f"{at}.k_rotated"], axis=2)
    return g.linear(f"{at}.o_proj", build_attention(g, layer, q, k, v, bias, at=at))


def qk_weight(g: GraphContext, heads: int, kv_heads: int, at: str) -> str:
    """The norms' weights of queries and keys as one table [H + Hkv, dh]."""
    of_queries = np.repeat(g.values(f"{at}.q_norm.weight")[None], heads, axis=0)
    of_keys = np.repeat(g.values(f"{at}.k_norm.weight")[None], kv_heads, axis=0)
    return g.b.weight(f"{at}.qk_norm.weight", np.concatenate((of_queries, of_keys)))
