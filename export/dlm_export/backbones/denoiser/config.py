"""Sizes and switches of the dense and mixture-of-experts decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from .rope import RopeScaling, plain_inverse_frequencies

EMBEDDING = "embed_tokens.weight"  # the table of token embeddings


@dataclass(frozen=True)
class Experts:
    """A mixture of experts in place of the feed-forward, in all layers but `dense_layers`.

    Router scores are a softmax or sigmoids over all experts, in float32. With `groups` above 1 the experts of the best `top_groups`
    groups alone stand for election, a group being as good as the sum of its two best. `score_bias` adds a stored bias to the scores of
    the election, never to the weights. The weights are the scores of the elected, made to sum to 1 where `renormalise` says so, times
    `scale`. `shared_size` is the width of a feed-forward that every token takes besides, 0 for none.
    """

    count: int
    per_token: int
    intermediate_size: int
    score: Literal["softmax", "sigmoid"] = "softmax"
    score_bias: bool = False
    renormalise: bool = False
    scale: float = 1.0
    groups: int = 1
    top_groups: int = 1
    shared_size: int = 0
    dense_layers: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for name in ("count", "per_token", "intermediate_size", "groups", "top_groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"experts: {name}={getattr(self, name)} must be at least 1")
        if self.count % self.groups:
            raise ValueError(f"experts: count={self.count} is not a multiple of groups={self.groups}")
        if self.top_groups > self.groups:
            raise ValueError(f"experts: top_groups={self.top_groups} exceeds groups={self.groups}")
        if self.groups > 1 and self.count // self.groups < 2:
            raise ValueError(f"experts: a group is judged by its two best, count={self.count} in groups={self.groups} leaves one")
        if self.per_token > self.count // self.groups * self.top_groups:
            raise ValueError(f"experts: per_token={self.per_token} exceeds the experts that stand for election")


@dataclass(frozen=True)
class DenoiserConfig:
    """One decoder. `query_scale_beta` is the Llama-4 long-position query scale of Nemotron; 0 turns it off.

    `rotary_dim` is how many of `head_dim` dimensions turn, all of them where None. `intermediate_size` is that of the dense layers.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rope_theta: float
    norm_eps: float
    rope_scaling: RopeScaling | None = None
    rotary_dim: int | None = None
    query_scale_beta: float = 0.0
    query_scale_positions: int = 0
    tied: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    experts: Experts | None = None

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "intermediate_size", "layers", "heads", "kv_heads", "head_dim"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads={self.heads} is not a multiple of kv_heads={self.kv_heads}")
        if self.turning % 2 or not 2 <= self.turning <= self.head_dim:
            raise ValueError(f"rotary embedding turns {self.turning} of head_dim={self.head_dim}: it must be even, and no more than all")
        if self.query_scale_beta and self.query_scale_positions < 1:
            raise ValueError(f"query_scale_positions={self.query_scale_positions} must be at least 1")

    @property
    def turning(self) -> int:
        """How many leading dimensions of a head are rotated."""
        return self.head_dim if self.rotary_dim is None else self.rotary_dim

    @property
    def attention_factor(self) -> float:
        """What a rope scaling multiplies both tables by."""
        return self.rope_scaling.attention_factor if self.rope_scaling else 1.0

    def experts_of(self, layer: int) -> Experts | None:
        """The mixture of a layer, None where it has a dense feed-forward."""
        return None if self.experts is None or layer in self.experts.dense_layers else self.experts


def inverse_frequencies(config: DenoiserConfig) -> Tensor:
    """Rotary inverse frequencies with the configured scaling, float32 [rotary_dim / 2]."""
    if config.rope_scaling is None:
        return plain_inverse_frequencies(config.rope_theta, config.turning)
    return config.rope_scaling.inverse_frequencies(config.rope_theta, config.turning)
