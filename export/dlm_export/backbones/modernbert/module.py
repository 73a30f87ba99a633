"""The plain torch form of ModernBERT (Warner et al. 2024, arXiv:2412.13663) with its masked language modelling head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..backbone import KeyValue
from ..bert.activation import activate
from ..denoiser import grouped_attention, rotate
from ..denoiser.rope import plain_inverse_frequencies
from .config import ModernBertConfig

Surroundings = tuple[Tensor, Tensor, Tensor]  # cos, sin [B, 1, L, dh / 2] and additive mask [B, 1, L, P + L] of a kind of layer


class Layer(nn.Module):
    """Attention, then a gated feed-forward, each normed before and added to what came in."""

    def __init__(self, config: ModernBertConfig, index: int) -> None:
        super().__init__()
        self.config = config
        width, ffn = config.hidden_size, config.intermediate_size
        self.attention_norm = norm(config) if index else nn.Identity()
        self.qkv = nn.Linear(width, 3 * width, bias=config.attention_bias)
        self.attention_out = nn.Linear(width, width, bias=config.attention_bias)
        self.mlp_norm = norm(config)
        self.mlp_in = nn.Linear(width, 2 * ffn, bias=config.mlp_bias)
        self.mlp_out = nn.Linear(ffn, width, bias=config.mlp_bias)

    def forward(self, x: Tensor, surroundings: Surroundings, past: KeyValue | None) -> tuple[Tensor, KeyValue]:
        """`x` [B, L, D] -> output [B, L, D] and this call's keys and values."""
        attended, present = self.attention(self.attention_norm(x), surroundings, past)
        x = x + attended
        value, gate = self.mlp_in(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.mlp_out(activate(value, self.config.activation) * gate), present

    def attention(self, x: Tensor, surroundings: Surroundings, past: KeyValue | None) -> tuple[Tensor, KeyValue]:
        """The attention branch, [B, L, D] -> [B, L, D]."""
        cos, sin, bias = surroundings
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.config.heads, -1).permute(2, 0, 3, 1, 4)  # each [B, H, L, dh]
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        keys, values = (k, v) if past is None else (torch.cat((past[0], k), 2), torch.cat((past[1], v), 2))
        mixed = grouped_attention(q, keys, values, bias)
        return self.attention_out(mixed.transpose(1, 2).reshape(batch, length, width)), (k, v)


class ModernBert(nn.Module):
    """The encoder under a free attention mask, which local layers narrow further."""

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.embeddings = nn.Embedding(config.vocab_size, width)
        self.embedding_norm = norm(config)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.layers))
        self.final_norm = norm(config)
        self.transform = nn.Linear(width, width, bias=config.head_bias)
        self.transform_norm = norm(config)
        self.head = nn.Linear(width, config.vocab_size, bias=config.decoder_bias)
        if config.tied:
            self.head.weight = self.embeddings.weight

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, mask: Tensor, past: list[KeyValue] | None = None
    ) -> tuple[Tensor, list[KeyValue]]:
        """Run the encoder and its head.

        Args:
            input_ids, position_ids: int64 [B, L].
            mask: bool [B, 1, L, P + L], True where visible; every query must see itself.
            past: per layer, keys (rotated) and values [B, H, P, dh]; column i holds position i.

        Returns:
            Logits [B, L, V] and, per layer, the keys and values [B, H, L, dh] of these tokens alone.
        """
        x = self.embedding_norm(self.embeddings(input_ids))
        kinds = {local: self.surroundings(position_ids, mask, x.dtype, local=local) for local in (False, True)}
        presents: list[KeyValue] = []
        for index, layer in enumerate(self.layers):
            x, present = layer(x, kinds[self.config.is_local(index)], past[index] if past else None)
            presents.append(present)
        x = activate(self.transform(self.final_norm(x)), self.config.head_activation)
        return self.head(self.transform_norm(x)), presents

    def surroundings(self, position_ids: Tensor, mask: Tensor, dtype: torch.dtype, *, local: bool) -> Surroundings:
        """What the local or the global layers turn by and see. Angles are float32, as published, whatever the weights are."""
        theta = self.config.local_theta if local else self.config.global_theta
        frequencies = plain_inverse_frequencies(theta, self.config.head_dim).to(position_ids.device)
        angles = position_ids[:, None, :, None].float() * frequencies
        if local:
            past = torch.arange(mask.shape[-1] - position_ids.shape[1], device=position_ids.device)
            keys = torch.cat((past.expand(len(position_ids), -1), position_ids), 1)  # [B, P + L]
            mask = mask & ((position_ids[:, :, None] - keys[:, None]).abs() <= self.config.window)[:, None]
        bias = torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, -torch.inf)
        return angles.cos(), angles.sin(), bias


def norm(config: ModernBertConfig) -> nn.LayerNorm:
    """A layer norm of the model's width."""
    return nn.LayerNorm(config.hidden_size, config.norm_eps, bias=config.norm_bias)
