"""The decoder as a backbone: tensors, torch form, graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ...graph.context import GraphContext
from ...graph.mask import additive_bias
from ...graph.norm import build_rms_norm
from ...graph.step_values import StepValues
from ..backbone import Backbone
from .config import EMBEDDING, DenoiserConfig
from .graph.layer import build_layer
from .graph.rotary import build_rotary
from .module import Denoiser

Shapes = Iterator[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class DenoiserBackbone(Backbone[DenoiserConfig]):
    """See `Backbone`. Tensor names are those of `Denoiser`."""

    embedding_name: ClassVar[str] = EMBEDDING

    def cache_shape(self, layer: int) -> tuple[int, int]:
        """The same in every layer."""
        return self.config.kv_heads, self.config.head_dim

    def tensor_shapes(self) -> Shapes:
        """Embedding, layers, final norm, head."""
        c = self.config
        yield EMBEDDING, (c.vocab_size, c.hidden_size)
        for layer in range(c.layers):
            for norm in ("input_layernorm", "post_attention_layernorm"):
                yield f"layers.{layer}.{norm}.weight", (c.hidden_size,)
            yield from attention_shapes(c, f"layers.{layer}.self_attn")
            yield from feed_forward_shapes(c, layer)
        yield "norm.weight", (c.hidden_size,)
        if not c.tied:
            yield "head.weight", (c.vocab_size, c.hidden_size)

    def module(self) -> nn.Module:
        """The plain torch decoder."""
        return Denoiser(self.config)

    def build_hidden(self, g: GraphContext, step: StepValues) -> str:
        """Embedding and all layers."""
        c = self.config
        bias = additive_bias(g.b, step.visible, query_groups=c.heads // c.kv_heads)
        rotary = build_rotary(g.b, c)
        x = g.embedding(EMBEDDING, "input_ids", "embed_tokens")
        for layer in range(c.layers):
            x = build_layer(g, c, layer, x, rotary, bias)
        return x

    def build_logits(self, g: GraphContext, x: str) -> str:
        """Final norm and head; a tied head is the embedding table again."""
        normed = build_rms_norm(g, "norm", x, self.config.norm_eps)
        return g.head(normed, EMBEDDING if self.config.tied else "head.weight")


def attention_shapes(c: DenoiserConfig, at: str) -> Shapes:
    """Projections, their biases, and the norms of queries and keys."""
    queries, keys = c.heads * c.head_dim, c.kv_heads * c.head_dim
    for part, rows in (("q", queries), ("k", keys), ("v", keys)):
        yield f"{at}.{part}_proj.weight", (rows, c.hidden_size)
        if c.qkv_bias:
            yield f"{at}.{part}_proj.bias", (rows,)
    yield f"{at}.o_proj.weight", (c.hidden_size, queries)
    if c.output_bias:
        yield f"{at}.o_proj.bias", (c.hidden_size,)
    if c.qk_norm:
        yield f"{at}.q_norm.weight", (c.head_dim,)
        yield f"{at}.k_norm.weight", (c.head_dim,)


def feed_forward_shapes(c: DenoiserConfig, layer: int) -> Shapes:
    """A dense feed-forward, or router, experts and what they share."""
    at, experts = f"layers.{layer}.mlp", c.experts_of(layer)
    if experts is None:
        yield from gated_shapes(at, c.hidden_size, c.intermediate_size, bias=c.mlp_bias)
        return
    yield f"{at}.gate.weight", (experts.count, c.hidden_size)
    if experts.score_bias:
        yield f"{at}.gate.expert_bias", (experts.count,)
    for index in range(experts.count):
        yield from gated_shapes(f"{at}.experts.{index}", c.hidden_size, experts.intermediate_size)
    if experts.shared_size:
        yield from gated_shapes(f"{at}.shared_experts", c.hidden_size, experts.shared_size)


def gated_shapes(at: str, width: int, size: int, *, bias: bool = False) -> Shapes:
    """Gate, up and down projections."""
    for part, shape in (("gate", (size, width)), ("up", (size, width)), ("down", (width, size))):
        yield f"{at}.{part}_proj.weight", shape
        if bias:
            yield f"{at}.{part}_proj.bias", shape[:1]
