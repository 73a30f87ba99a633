"""ModernBERT as a graph."""

from __future__ import annotations

from ...graph.activation import build_activation
from ...graph.attention import build_attention
from ...graph.context import GraphContext
from ...graph.norm import build_layer_norm
from ...graph.rotary import rotate
from ...graph.step_values import StepValues
from ..bert.transform import build_transform
from .config import EMBEDDING, ModernBertConfig
from .surroundings import Surroundings, SurroundingsWriter


def build_encoder(g: GraphContext, config: ModernBertConfig, step: StepValues) -> str:
    """Embeddings and all layers, float32 [B, L, D], before the final norm."""
    surroundings = SurroundingsWriter(g.b, config, step)
    x = build_norm(g, config, "embedding_norm", g.embedding(EMBEDDING, "input_ids", "embeddings"))
    for layer in range(config.layers):
        x = build_layer(g, config, layer, x, surroundings.of(layer))
    return x


def build_norm(g: GraphContext, config: ModernBertConfig, name: str, x: str) -> str:
    """A layer norm, with a bias where the config has one."""
    return build_layer_norm(g, name, x, config.norm_eps, bias=config.norm_bias)


def build_layer(g: GraphContext, config: ModernBertConfig, layer: int, x: str, surroundings: Surroundings) -> str:
    """Attention, then a gated feed-forward, each added to what came in; the embeddings are normed already."""
    b, at, ffn = g.b, f"layers.{layer}", config.intermediate_size
    normed = build_norm(g, config, f"{at}.attention_norm", x) if layer else x
    mixed = build_self_attention(g, config, layer, normed, surroundings)
    attended = g.linear(f"{at}.attention_out", mixed, bias=config.attention_bias)
    x = b.op("Add", [x, attended], f"{at}.after_attention")
    both = g.linear(f"{at}.mlp_in", build_norm(g, config, f"{at}.mlp_norm", x), bias=config.mlp_bias)
    value, gate = b.split(both, [ffn] * 2, [f"{at}.mlp_value", f"{at}.mlp_gate"])
    gated = b.op("Mul", [build_activation(b, value, f"{at}.activation", config.activation), gate], f"{at}.gated")
    return b.op("Add", [x, g.linear(f"{at}.mlp_out", gated, bias=config.mlp_bias)], f"{at}.after_mlp")


def build_self_attention(g: GraphContext, config: ModernBertConfig, layer: int, x: str, surroundings: Surroundings) -> str:
    """`x` [B, L, D] -> heads side by side [B, L, D]; queries and keys are rotated together."""
    b, at, heads, dh = g.b, f"layers.{layer}", config.heads, config.head_dim
    qkv = g.linear(f"{at}.qkv", x, bias=config.attention_bias)
    qk_flat, v_flat = b.split(qkv, [2 * heads * dh, heads * dh], [f"{at}.qk_flat", f"{at}.v_flat"])
    qk = b.op("Reshape", [qk_flat, b.constant([0, 0, 2 * heads, dh])], f"{at}.qk")
    v = b.op("Reshape", [v_flat, b.constant([0, 0, heads, dh])], f"{at}.v")
    q, k = b.split(rotate(b, qk, surroundings.rotary, at), [heads] * 2, [f"{at}.q_rotated", f"{at}.k_rotated"], axis=2)
    return build_attention(g, layer, q, k, v, surroundings.bias, at=at)


def build_head(g: GraphContext, config: ModernBertConfig, x: str) -> str:
    """`x` [B, W, D] -> `logits` [B, W, V]: final norm, dense layer, norm, head."""
    transformed = build_transform(g, build_norm(g, config, "final_norm", x), config.head_activation, bias=config.head_bias)
    normed = build_norm(g, config, "transform_norm", transformed)
    return g.head(normed, EMBEDDING if config.tied else "head.weight", bias="head.bias" if config.decoder_bias else None)
