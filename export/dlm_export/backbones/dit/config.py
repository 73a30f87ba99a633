"""Sizes of a diffusion transformer over tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

NORM_EPS = 1e-5
MLP_RATIO = 4
TIMESTEP_SIZE = 256  # entries of the sinusoidal timestep embedding, cosines first
EMBEDDING = "vocab_embed.embedding"  # the table of token embeddings


@dataclass(frozen=True)
class DitConfig:
    """A pre-norm transformer with biasless LayerNorm, rotary positions and a tanh-GELU feed-forward.

    With `adaln`, every layer shifts, scales and gates by vectors computed from a timestep embedding of size `cond_size`.
    """

    vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    cond_size: int
    adaln: bool = True

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "layers", "heads", "cond_size"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size={self.hidden_size} is not a multiple of heads={self.heads}")
        if self.head_size % 2:
            raise ValueError(f"head_size={self.head_size} must be even for rotary embedding")

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.heads

    @property
    def intermediate_size(self) -> int:
        """Width of the feed-forward."""
        return MLP_RATIO * self.hidden_size

    def tensor_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every tensor with its shape, under the names of the published code less its `backbone.`, one by one."""
        width, ffn, cond = self.hidden_size, self.intermediate_size, self.cond_size
        yield EMBEDDING, (self.vocab_size, width)
        yield "rotary_emb.inv_freq", (self.head_size // 2,)
        if self.adaln:
            yield from linear_shapes("sigma_map.mlp.0", cond, TIMESTEP_SIZE)
            yield from linear_shapes("sigma_map.mlp.2", cond, cond)
        for layer in range(self.layers):
            at = f"blocks.{layer}"
            yield f"{at}.norm1.weight", (width,)
            yield f"{at}.attn_qkv.weight", (3 * width, width)
            yield f"{at}.attn_out.weight", (width, width)
            yield f"{at}.norm2.weight", (width,)
            yield from linear_shapes(f"{at}.mlp.0", ffn, width)
            yield from linear_shapes(f"{at}.mlp.2", width, ffn)
            if self.adaln:
                yield from linear_shapes(f"{at}.adaLN_modulation", 6 * width, cond)
        yield "output_layer.norm_final.weight", (width,)
        yield from linear_shapes("output_layer.linear", self.vocab_size, width)
        if self.adaln:
            yield from linear_shapes("output_layer.adaLN_modulation", 2 * width, cond)


def linear_shapes(node: str, out_size: int, in_size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Weight and bias of one linear layer."""
    yield f"{node}.weight", (out_size, in_size)
    yield f"{node}.bias", (out_size,)
