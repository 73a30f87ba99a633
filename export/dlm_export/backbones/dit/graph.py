"""The diffusion transformer as a graph."""

from __future__ import annotations

from ...graph.activation import gelu
from ...graph.attention import build_attention
from ...graph.context import GraphContext
from ...graph.mask import additive_bias
from ...graph.rotary import RotaryTables, build_rotary, head_scale, rotate
from ...graph.step_values import StepValues
from .config import EMBEDDING, DitConfig
from .modulation import Modulations


def build_blocks(g: GraphContext, config: DitConfig, step: StepValues) -> str:
    """Embedding and all layers, float32 [B, L, D]."""
    bias = additive_bias(g.b, step.visible)
    scale = g.b.weight("rotary.head_scale", head_scale(config.heads, config.heads, config.head_size))
    tables = build_rotary(g.b, g.values("rotary_emb.inv_freq")).scaled(g.b, scale)
    modulations = Modulations(g, config)
    x = g.embedding(EMBEDDING, "input_ids", "vocab_embed")
    for layer in range(config.layers):
        at = f"blocks.{layer}"
        attention, feed_forward = modulations.block(layer)
        mixed = build_heads(g, config, layer, attention.norm(g, f"{at}.norm1", x), tables, bias)
        attended = attention.output(g, f"{at}.attn_out", mixed, bias=False)
        x = g.b.op("Add", [x, attended], f"{at}.after_attention")
        up = g.linear(f"{at}.mlp.0", feed_forward.norm(g, f"{at}.norm2", x), bias=True)
        down = feed_forward.output(g, f"{at}.mlp.2", gelu(g.b, up, f"{at}.mlp.1", tanh=True), bias=True)
        x = g.b.op("Add", [x, down], f"{at}.after_mlp")
    return x


def build_heads(g: GraphContext, config: DitConfig, layer: int, x: str, tables: RotaryTables, bias: str) -> str:
    """Attention without its output matrix: normed `x` [B, L, D] -> heads side by side [B, L, D]."""
    b, at, heads, head_size = g.b, f"blocks.{layer}.attn", config.heads, config.head_size
    qkv_flat = g.linear(f"{at}_qkv", x)
    qkv = b.op("Reshape", [qkv_flat, b.constant([0, 0, 3 * heads, head_size])], f"{at}.qkv")
    qk, v = b.split(qkv, [2 * heads, heads], [f"{at}.qk", f"{at}.v"], axis=2)
    q, k = b.split(rotate(b, qk, tables, at), [heads, heads], [f"{at}.q", f"{at}.k"], axis=2)
    return build_attention(g, layer, q, k, v, bias, at=at)


def build_output_layer(g: GraphContext, config: DitConfig, x: str) -> str:
    """Final norm and head, `x` [B, W, D] -> `logits` [B, W, V]."""
    normed = Modulations(g, config).final().norm(g, "output_layer.norm_final", x)
    return g.head(normed, "output_layer.linear.weight", bias="output_layer.linear.bias")
