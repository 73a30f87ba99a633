"""The plain torch backbone of the dense families: the reference that every exported graph is compared with.

A family differs from another only in key names, sizes, mask kind and shift, so one module serves them all. It takes the attention
mask as an argument and knows nothing of samplers, blocks or caches beyond "keys and values that came before".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..backbone import KeyValue
from .config import DenoiserConfig, inverse_frequencies
from .experts import GatedMLP, MixtureOfExperts


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding, halves convention, of the leading r dimensions. `x` [B, H, L, dh]; `cos`, `sin` [B, 1, L, r / 2]."""
    half = cos.shape[-1]
    first, second, rest = x.split((half, half, x.shape[-1] - 2 * half), dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return torch.cat((turned, rest.to(turned.dtype)), dim=-1)


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
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=config.qkv_bias)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=config.output_bias)
        self.q_norm = RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor, Tensor], bias: Tensor, past: KeyValue | None) -> tuple[Tensor, KeyValue]:
        """`x` [B, L, D], additive `bias` [B, 1, L, P + L] -> output [B, L, D] and this call's keys and values."""
        cos, sin, query_scale = rotary
        batch, length, _ = x.shape
        q, k, v = (
            proj(x).view(batch, length, -1, self.config.head_dim).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(self.q_norm(q), cos, sin) * query_scale, rotate(self.k_norm(k), cos, sin)
        q, k = q.to(v.dtype), k.to(v.dtype)
        all_k, all_v = (k, v) if past is None else (torch.cat((past[0], k), 2), torch.cat((past[1], v), 2))
        out = grouped_attention(q, all_k, all_v, bias)
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1)), (k, v)


class Layer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, config: DenoiserConfig, index: int = 0) -> None:
        super().__init__()
        experts = config.experts_of(index)
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = (
            MixtureOfExperts(config, experts) if experts else GatedMLP(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        )

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor, Tensor], bias: Tensor, past: KeyValue | None) -> tuple[Tensor, KeyValue]:
        attended, present = self.self_attn(self.input_layernorm(x), rotary, bias, past)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), present


class Denoiser(nn.Module):
    """A dense decoder under a free attention mask: diffusion, self-speculation and autoregression are masks over the same weights."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tied:
            self.head.weight = self.embed_tokens.weight

    @property
    def inv_freq(self) -> Tensor:
        """Rotary inverse frequencies, float32 [r / 2]; computed, not stored, so that a model without memory can be filled with weights."""
        return inverse_frequencies(self.config).to(self.embed_tokens.weight.device)

    def rotary(self, position_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`position_ids` [B, L] -> cos, sin [B, 1, L, r / 2] and the query scale [B, 1, L, 1], all float32 whatever the weights are."""
        angles = position_ids[:, None, :, None].float() * self.inv_freq
        factor = self.config.attention_factor
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
