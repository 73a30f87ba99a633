"""The plain torch backbone of the dense families: the reference that every exported graph is compared with.

A family differs from another only in key names, sizes, mask kind and shift, so one module serves them all. It takes the attention
mask as an argument and knows nothing of samplers, blocks or caches beyond "keys and values that came before".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeyValue = tuple[Tensor, Tensor]  # each [B, Hkv, P, dh]


@dataclass(frozen=True)
class YarnScaling:
    """YaRN rotary scaling (Peng et al. 2023, arXiv:2309.00071) as Hugging Face `rope_parameters` spells it."""

    factor: float
    original_max_positions: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0


@dataclass(frozen=True)
class DenoiserConfig:
    """Sizes of a dense decoder backbone. `query_scale_beta` is the Llama-4 long-position query scale of Nemotron; 0 turns it off."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rope_theta: float
    norm_eps: float
    yarn: YarnScaling | None = None
    query_scale_beta: float = 0.0
    query_scale_positions: int = 0
    tied: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "intermediate_size", "layers", "heads", "kv_heads", "head_dim"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads={self.heads} is not a multiple of kv_heads={self.kv_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} must be even for rotary embedding")


def inverse_frequencies(config: DenoiserConfig) -> Tensor:
    """Rotary inverse frequencies, float32 [dh / 2], with YaRN's blend of interpolated and original ones where configured.

    The order of operations is Hugging Face's: at position 100,000 one rounding more or less turns the angle by a hundredth.
    """
    dim = config.head_dim
    wavelengths = config.rope_theta ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    original = 1.0 / wavelengths
    if config.yarn is None:
        return original
    kept = 1 - interpolation_ramp(config.yarn, dim, config.rope_theta)
    return 1.0 / (config.yarn.factor * wavelengths) * (1 - kept) + original * kept


def interpolation_ramp(yarn: YarnScaling, dim: int, theta: float) -> Tensor:
    """How far each frequency is interpolated, 0 (not at all) to 1, float32 [dh / 2].

    The original context bounds the ramp; a context of a few tokens, or one longer than every wavelength, leaves an upper bound below
    the lower one. The published code then divides by the negative difference, and so does this.
    """

    def dimension_of(rotations: float) -> float:
        return dim * math.log(yarn.original_max_positions / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(dimension_of(yarn.beta_fast)), 0)
    high = min(math.ceil(dimension_of(yarn.beta_slow)), dim - 1)
    span = high - low if high != low else 0.001
    return ((torch.arange(dim // 2, dtype=torch.float32) - low) / span).clamp(0, 1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding, halves convention. `x` [B, H, L, dh]; `cos`, `sin` [B, 1, L, dh / 2]."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def grouped_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Softmax attention in which `H / Hkv` query heads share a key head, written out plainly.

    On the CPU this trains faster in bfloat16 than the library's fused kernel does with an arbitrary mask. `q` [B, H, L, dh];
    `k`, `v` [B, Hkv, S, dh]; additive `bias` [B, 1, L, S]; returns [B, H, L, dh].
    """
    batch, heads, length, dim = q.shape
    kv_heads, span = k.shape[1], k.shape[2]
    grouped = q.reshape(batch, kv_heads, heads // kv_heads * length, dim)
    scores = (grouped @ k.transpose(-1, -2)).view(batch, heads, length, span) * dim**-0.5 + bias.to(q.dtype)
    weights = torch.softmax(scores, dim=-1).view(batch, kv_heads, heads // kv_heads * length, span)
    return (weights.to(v.dtype) @ v).view(batch, heads, length, dim)


class RMSNorm(nn.Module):
    """Root-mean-square norm, in float32 at least (Zhang & Sennrich 2019)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return self.weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions under an arbitrary mask."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor, Tensor], bias: Tensor, past: KeyValue | None) -> tuple[Tensor, KeyValue]:
        """`x` [B, L, D], additive `bias` [B, 1, L, P + L] -> output [B, L, D] and this call's keys and values."""
        cos, sin, query_scale = rotary
        batch, length, _ = x.shape
        q, k, v = (
            proj(x).view(batch, length, -1, self.config.head_dim).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, cos, sin) * query_scale, rotate(k, cos, sin)
        q, k = q.to(v.dtype), k.to(v.dtype)
        all_k, all_v = (k, v) if past is None else (torch.cat((past[0], k), 2), torch.cat((past[1], v), 2))
        out = grouped_attention(q, all_k, all_v, bias)
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1)), (k, v)


class GatedMLP(nn.Module):
    """SwiGLU feed-forward (Shazeer 2020)."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = GatedMLP(config)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor, Tensor], bias: Tensor, past: KeyValue | None) -> tuple[Tensor, KeyValue]:
        attended, present = self.self_attn(self.input_layernorm(x), rotary, bias, past)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), present


class Denoiser(nn.Module):
    """A dense decoder under a free attention mask: diffusion, self-speculation and autoregression are masks over the same weights."""

    inv_freq: Tensor

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tied:
            self.head.weight = self.embed_tokens.weight
        self.register_buffer("inv_freq", inverse_frequencies(config), persistent=False)

    def rotary(self, position_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`position_ids` [B, L] -> cos, sin [B, 1, L, dh / 2] and the query scale [B, 1, L, 1], all float32 whatever the weights are."""
        angles = position_ids[:, None, :, None].float() * self.inv_freq.float()
        factor = self.config.yarn.attention_factor if self.config.yarn else 1.0
        scale = torch.ones_like(position_ids, dtype=torch.float32)
        if self.config.query_scale_beta:
            rounds = torch.div(position_ids, self.config.query_scale_positions, rounding_mode="floor")
            scale = 1 + self.config.query_scale_beta * torch.log(1 + rounds.float())
        return angles.cos() * factor, angles.sin() * factor, scale[:, None, :, None]

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, mask: Tensor, past: list[KeyValue] | None = None
    ) -> tuple[Tensor, list[KeyValue]]:
        """Run the backbone.

        Args:
            input_ids, position_ids: int64 [B, L].
            mask: boolean (True = visible) or additive, [B, 1, L, P + L].
            past: per layer, keys and values [B, Hkv, P, dh] of committed tokens.

        Returns:
            Logits [B, L, V] and, per layer, the keys and values [B, Hkv, L, dh] of these tokens alone.
        """
        hidden, presents = self.hidden(input_ids, position_ids, mask, past)
        return self.head(hidden), presents

    def hidden(
        self, input_ids: Tensor, position_ids: Tensor, mask: Tensor, past: list[KeyValue] | None = None
    ) -> tuple[Tensor, list[KeyValue]]:
        """As `forward`, but stop before the head: normed hidden states [B, L, D]."""
        x = self.embed_tokens(input_ids)
        rotary = self.rotary(position_ids)
        bias = torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, torch.finfo(x.dtype).min) if mask.dtype == torch.bool else mask
        presents: list[KeyValue] = []
        for index, layer in enumerate(self.layers):
            x, present = layer(x, rotary, bias, past[index] if past else None)
            presents.append(present)
        return self.norm(x), presents
