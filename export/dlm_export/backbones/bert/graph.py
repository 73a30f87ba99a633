"""BERT as a graph."""

from __future__ import annotations

from ...graph.activation import build_activation
from ...graph.attention import build_attention
from ...graph.context import GraphContext
from ...graph.mask import additive_bias
from ...graph.norm import build_layer_norm
from ...graph.step_values import StepValues
from .config import EMBEDDING, BertConfig
from .transform import build_transform


def build_encoder(g: GraphContext, config: BertConfig, step: StepValues) -> str:
    """Embeddings and all layers, float32 [B, L, D]."""
    bias = additive_bias(g.b, step.visible)
    x = build_embeddings(g, config)
    for layer in range(config.layers):
        x = build_layer(g, config, layer, x, bias)
    return x


def build_embeddings(g: GraphContext, config: BertConfig) -> str:
    """Word, position and segment 0 summed and normed; as the segment is always the same one, its row is part of the position table."""
    b = g.b
    table = g.values("position_embeddings.weight") + g.values("token_type_embeddings.weight")[0]
    table_key = b.weight(g.weights.key("position_embeddings.weight"), table)
    # Tokens lie inside the table, as max_context says; the padding behind a row's last token need not, and must not fail the step.
    inside = b.op("Min", ["position_ids", b.constant(config.positions - 1)], "position_embeddings.inside")
    positions = b.op("Gather", [table_key, inside], "position_embeddings")
    words = g.embedding(EMBEDDING, "input_ids", "word_embeddings")
    return build_layer_norm(g, "embedding_norm", b.op("Add", [words, positions], "embeddings"), config.norm_eps, bias=True)


def build_layer(g: GraphContext, config: BertConfig, layer: int, x: str, bias: str) -> str:
    """Attention, then feed-forward, each added to what came in and normed afterwards."""
    b, at = g.b, f"layers.{layer}"
    attended = g.linear(f"{at}.attention_out", build_self_attention(g, config, layer, x, bias), bias=True)
    x = build_layer_norm(g, f"{at}.attention_norm", b.op("Add", [x, attended], f"{at}.after_attention"), config.norm_eps, bias=True)
    up = build_activation(b, g.linear(f"{at}.up", x, bias=True), f"{at}.activation", config.activation)
    down = g.linear(f"{at}.down", up, bias=True)
    return build_layer_norm(g, f"{at}.output_norm", b.op("Add", [x, down], f"{at}.after_mlp"), config.norm_eps, bias=True)


def build_self_attention(g: GraphContext, config: BertConfig, layer: int, x: str, bias: str) -> str:
    """`x` [B, L, D] -> heads side by side [B, L, D]."""
    b, at, width = g.b, f"layers.{layer}", config.hidden_size
    qkv = g.fused_linear(f"{at}.qkv", [f"{at}.query", f"{at}.key", f"{at}.value"], x, bias=True)
    flat = b.split(qkv, [width] * 3, [f"{at}.q_flat", f"{at}.k_flat", f"{at}.v_flat"])
    per_head = b.constant([0, 0, config.heads, config.head_dim])
    q, k, v = (b.op("Reshape", [part, per_head], f"{at}.{name}") for part, name in zip(flat, "qkv", strict=True))
    scaled = b.op("Mul", [q, b.constant(config.head_dim**-0.5)], f"{at}.q_scaled")
    return build_attention(g, layer, scaled, k, v, bias, at=at)


def build_head(g: GraphContext, config: BertConfig, x: str) -> str:
    """`x` [B, W, D] -> `logits` [B, W, V]."""
    transformed = build_transform(g, x, config.activation, bias=True)
    normed = build_layer_norm(g, "transform_norm", transformed, config.norm_eps, bias=True)
    return g.head(normed, EMBEDDING if config.tied else "head.weight", bias="head.bias")
