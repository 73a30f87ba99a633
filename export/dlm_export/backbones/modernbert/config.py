"""Sizes and switches of ModernBERT."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...graph.activation import Activation

EMBEDDING = "embeddings.weight"  # the table of token embeddings
Shapes = Iterator[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class ModernBertConfig:
    """A pre-norm encoder with rotary positions in which most layers see their neighbourhood alone.

    A local layer sees positions at most `window` away and turns by `local_theta`; a global one sees all and turns by `global_theta`.
    Layers whose index is a multiple of `global_every` are global, or all but `local_layers` where those are named. `head_activation` and
    `head_bias` are those of the dense layer before the head, `decoder_bias` is the head's own.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    norm_eps: float
    window: int
    global_theta: float
    local_theta: float
    global_every: int = 3
    local_layers: frozenset[int] | None = None
    activation: Activation = "gelu"
    head_activation: Activation = "gelu"
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    decoder_bias: bool = True
    tied: bool = True

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "intermediate_size", "layers", "heads", "global_every"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        if self.window < 0:
            raise ValueError(f"window={self.window} must not be negative")
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size={self.hidden_size} is not a multiple of heads={self.heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} must be even for rotary embedding")

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return self.hidden_size // self.heads

    def is_local(self, layer: int) -> bool:
        """Whether a layer sees its neighbourhood alone."""
        return layer % self.global_every > 0 if self.local_layers is None else layer in self.local_layers

    def tensor_shapes(self) -> Shapes:
        """Every tensor with its shape, one by one. The first layer has no norm before its attention."""
        width, ffn = self.hidden_size, self.intermediate_size
        yield EMBEDDING, (self.vocab_size, width)
        yield from node_shapes("embedding_norm", (width,), bias=self.norm_bias)
        for layer in range(self.layers):
            at = f"layers.{layer}"
            if layer:
                yield from node_shapes(f"{at}.attention_norm", (width,), bias=self.norm_bias)
            yield from node_shapes(f"{at}.qkv", (3 * width, width), bias=self.attention_bias)
            yield from node_shapes(f"{at}.attention_out", (width, width), bias=self.attention_bias)
            yield from node_shapes(f"{at}.mlp_norm", (width,), bias=self.norm_bias)
            yield from node_shapes(f"{at}.mlp_in", (2 * ffn, width), bias=self.mlp_bias)
            yield from node_shapes(f"{at}.mlp_out", (width, ffn), bias=self.mlp_bias)
        yield from node_shapes("final_norm", (width,), bias=self.norm_bias)
        yield from node_shapes("transform", (width, width), bias=self.head_bias)
        yield from node_shapes("transform_norm", (width,), bias=self.norm_bias)
        if not self.tied:
            yield "head.weight", (self.vocab_size, width)
        if self.decoder_bias:
            yield "head.bias", (self.vocab_size,)


def node_shapes(node: str, shape: tuple[int, ...], *, bias: bool) -> Shapes:
    """Weight of a linear layer or a norm, and its bias where it has one."""
    yield f"{node}.weight", shape
    if bias:
        yield f"{node}.bias", shape[:1]
