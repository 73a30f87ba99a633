"""Sizes and switches of BERT."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...graph.activation import Activation

EMBEDDING = "word_embeddings.weight"  # the table of token embeddings
Shapes = Iterator[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class BertConfig:
    """A post-norm encoder with biases everywhere, and the head of masked language modelling.

    `positions` is the length of the learned position table, `token_types` that of the segment table, of which row 0 alone is used. With
    `tied` the head multiplies by the word table; its bias is a tensor of its own either way.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    positions: int
    token_types: int
    norm_eps: float
    activation: Activation = "gelu"
    tied: bool = True

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "intermediate_size", "layers", "heads", "positions", "token_types"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size={self.hidden_size} is not a multiple of heads={self.heads}")

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return self.hidden_size // self.heads

    def tensor_shapes(self) -> Shapes:
        """Every tensor with its shape, one by one."""
        width, ffn = self.hidden_size, self.intermediate_size
        yield EMBEDDING, (self.vocab_size, width)
        yield "position_embeddings.weight", (self.positions, width)
        yield "token_type_embeddings.weight", (self.token_types, width)
        yield from norm_shapes("embedding_norm", width)
        for layer in range(self.layers):
            at = f"layers.{layer}"
            for part in ("query", "key", "value", "attention_out"):
                yield from linear_shapes(f"{at}.{part}", width, width)
            yield from norm_shapes(f"{at}.attention_norm", width)
            yield from linear_shapes(f"{at}.up", ffn, width)
            yield from linear_shapes(f"{at}.down", width, ffn)
            yield from norm_shapes(f"{at}.output_norm", width)
        yield from linear_shapes("transform", width, width)
        yield from norm_shapes("transform_norm", width)
        if not self.tied:
            yield "head.weight", (self.vocab_size, width)
        yield "head.bias", (self.vocab_size,)


def linear_shapes(node: str, out_size: int, in_size: int) -> Shapes:
    """Weight and bias of a linear layer."""
    yield f"{node}.weight", (out_size, in_size)
    yield f"{node}.bias", (out_size,)


def norm_shapes(node: str, size: int) -> Shapes:
    """Weight and bias of a layer norm."""
    yield f"{node}.weight", (size,)
    yield f"{node}.bias", (size,)
