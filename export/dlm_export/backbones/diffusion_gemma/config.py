"""Sizes of DiffusionGemma: a Gemma 4 mixture of experts that runs as a causal encoder and as a bidirectional decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AttentionKind:
    """What sliding and full layers do not share.

    `window` is how many tokens a query reaches back, itself among them; None reaches everything. Layers without a window have no value
    projection: their values are the keys before norm and rotation. Of the head_dim / 2 pairs of a head the first `rotary_pairs` turn,
    at the frequencies that a head turning as a whole would have there, divided by `rope_factor` (proportional rotary embedding).
    """

    head_dim: int
    kv_heads: int
    rope_theta: float
    rotary_pairs: int
    rope_factor: float = 1.0
    window: int | None = None

    def __post_init__(self) -> None:
        for name in ("head_dim", "kv_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} must be even for rotary embedding")
        if not 0 <= self.rotary_pairs <= self.head_dim // 2:
            raise ValueError(f"rotary_pairs={self.rotary_pairs} must lie between 0 and head_dim / 2 = {self.head_dim // 2}")
        if self.window is not None and self.window < 2:
            raise ValueError(f"window={self.window} must be at least 2")

    def inverse_frequencies(self) -> Tensor:
        """Float32 [head_dim / 2]; pairs that do not turn have frequency 0. The order of operations is Hugging Face's."""
        exponents = torch.arange(0, 2 * self.rotary_pairs, 2, dtype=torch.float32) / self.head_dim
        still = torch.zeros(self.head_dim // 2 - self.rotary_pairs)
        return torch.cat((1.0 / self.rope_theta**exponents, still)) / self.rope_factor


@dataclass(frozen=True)
class DiffusionGemmaConfig:
    """One network. `full_layers` are those without a window, `logit_cap` is the bound of the soft-capped logits.

    `intermediate_size` is the width of the feed-forward that every token takes, and of the self-conditioning; `expert_size` that of one
    of `experts`, of which every token takes `experts_per_token`.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    sliding: AttentionKind
    full: AttentionKind
    full_layers: frozenset[int]
    experts: int
    experts_per_token: int
    expert_size: int
    norm_eps: float
    logit_cap: float

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "intermediate_size", "layers", "heads", "experts", "experts_per_token", "expert_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for kind in (self.sliding, self.full):
            if self.heads % kind.kv_heads:
                raise ValueError(f"heads={self.heads} is not a multiple of kv_heads={kind.kv_heads}")
        if self.sliding.window is None or self.full.window is not None:
            raise ValueError(
                f"window={self.sliding.window} of sliding layers must be a number, window={self.full.window} of full ones None"
            )
        if self.experts_per_token > self.experts:
            raise ValueError(f"experts_per_token={self.experts_per_token} exceeds experts={self.experts}")
        if self.norm_eps <= 0 or self.logit_cap <= 0:
            raise ValueError(f"norm_eps={self.norm_eps} and logit_cap={self.logit_cap} must be above 0")

    def attention(self, layer: int) -> AttentionKind:
        """The kind of a layer."""
        return self.full if layer in self.full_layers else self.sliding

    def kinds(self) -> list[tuple[str, AttentionKind]]:
        """The kinds that occur, by name."""
        named = (("sliding", self.sliding, self.layers > len(self.full_layers)), ("full", self.full, bool(self.full_layers)))
        return [(name, kind) for name, kind, occurs in named if occurs]

    @property
    def embedding_scale(self) -> float:
        """What embeddings are multiplied by."""
        return self.hidden_size**0.5
