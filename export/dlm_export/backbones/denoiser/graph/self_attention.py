"""The decoder's attention: projections, norms of queries and keys, rotary embedding."""

from __future__ import annotations

import numpy as np

from ....graph.attention import build_attention
from ....graph.context import GraphContext
from ....graph.norm import rms_norm
from ....graph.rotary import RotaryTables, rotate
from ..config import DenoiserConfig


def build_self_attention(g: GraphContext, config: DenoiserConfig, layer: int, x: str, rotary: RotaryTables, bias: str) -> str:
    """`x` [B, L, D] -> [B, L, D]."""
    b, at = g.b, f"layers.{layer}.self_attn"
    heads, kv_heads, dh = config.heads, config.kv_heads, config.head_dim
    qkv = g.fused_linear(f"{at}.qkv_proj", [f"{at}.{part}_proj" for part in "qkv"], x, bias=config.qkv_bias)
    qk_flat, v_flat = b.split(qkv, [(heads + kv_heads) * dh, kv_heads * dh], [f"{at}.qk_flat", f"{at}.v_flat"])
    qk = b.op("Reshape", [qk_flat, b.constant([0, 0, heads + kv_heads, dh])], f"{at}.qk")
    if config.qk_norm:
        qk = rms_norm(g, qk, qk_weight(g, config, at), config.norm_eps, f"{at}.qk_norm")
    q, k = b.split(rotate(b, qk, rotary, at), [heads, kv_heads], [f"{at}.q_rotated", f"{at}.k_rotated"], axis=2)
    v = b.op("Reshape", [v_flat, b.constant([0, 0, kv_heads, dh])], f"{at}.v")
    joined = build_attention(g, layer, q, k, v, bias, at=at)
    return g.linear(f"{at}.o_proj", joined, bias=config.output_bias)


def qk_weight(g: GraphContext, config: DenoiserConfig, at: str) -> str:
    """The norms of queries and keys as one table [H + Hkv, dh], so that both are normed together."""
    of_queries = np.repeat(g.values(f"{at}.q_norm.weight")[None], config.heads, axis=0)
    of_keys = np.repeat(g.values(f"{at}.k_norm.weight")[None], config.kv_heads, axis=0)
    return g.b.weight(f"{at}.qk_norm.weight", np.concatenate((of_queries, of_keys)))
