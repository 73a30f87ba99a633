"""The plain torch reference of the diffusion transformer, with the timestep network written out as published.

Source of the formulas: Peebles & Xie 2023 (arXiv:2212.09748) for adaLN, Sahoo et al. 2024 (arXiv:2406.07524) for the network over tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbone import KeyValue
from .config import NORM_EPS, TIMESTEP_SIZE, DitConfig


class Norm(nn.Module):
    """LayerNorm with a weight and no bias, in float32 at least."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return F.layer_norm(wide, (x.shape[-1],), eps=NORM_EPS) * self.weight


class Embedding(nn.Module):
    """The token table, under its published name."""

    def __init__(self, vocab_size: int, size: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(vocab_size, size))

    def forward(self, ids: Tensor) -> Tensor:
        return self.embedding[ids]


class Timestep(nn.Module):
    """The conditioning vector [cond] of timestep 0, the only one that a model without time conditioning is ever given."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(TIMESTEP_SIZE, size), nn.SiLU(), nn.Linear(size, size))

    def forward(self) -> Tensor:
        like = next(self.parameters())
        cosines = torch.ones(TIMESTEP_SIZE // 2, dtype=like.dtype, device=like.device)
        return self.mlp(torch.cat((cosines, torch.zeros_like(cosines))))  # the sines of 0 are 0


class Rotary(nn.Module):
    """Rotary tables from the frequencies that the checkpoint stores."""

    def __init__(self, head_size: int) -> None:
        super().__init__()
        # A weight and not a buffer, because what is stored is what counts: nothing here is computed from a base.
        self.inv_freq = nn.Parameter(torch.empty(head_size // 2), requires_grad=False)

    def forward(self, position_ids: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """`position_ids` [B, L] -> cos, sin [B, 1, L, dh / 2]. Angles are float32, as published, whatever the weights are."""
        angles = (position_ids[:, None, :, None].float() * self.inv_freq.float()).to(dtype)
        return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding, halves convention. `x` [B, H, L, dh]; `cos`, `sin` [B, 1, L, dh / 2]."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Block(nn.Module):
    """One layer. Without adaLN nothing is shifted or scaled and the gates are open."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.heads
        self.norm1 = Norm(width)
        self.attn_qkv = nn.Linear(width, 3 * width, bias=False)
        self.attn_out = nn.Linear(width, width, bias=False)
        self.norm2 = Norm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, config.intermediate_size), nn.GELU(approximate="tanh"), nn.Linear(config.intermediate_size, width)
        )
        self.adaLN_modulation = nn.Linear(config.cond_size, 6 * width) if config.adaln else None

    def forward(
        self, x: Tensor, condition: Tensor | None, rotary: tuple[Tensor, Tensor], mask: Tensor, past: KeyValue | None
    ) -> tuple[Tensor, KeyValue]:
        """`x` [B, L, D], `condition` [cond], bool `mask` [B, 1, L, P + L] -> output [B, L, D] and this call's keys and values."""
        if self.adaLN_modulation is None or condition is None:
            attended, present = self.attention(self.norm1(x), rotary, mask, past)
            x = x + attended
            return x + self.mlp(self.norm2(x)), present
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(condition).chunk(6)
        attended, present = self.attention(self.norm1(x) * (1 + scale1) + shift1, rotary, mask, past)
        x = x + gate1 * attended
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2), present

    def attention(self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor, past: KeyValue | None) -> tuple[Tensor, KeyValue]:
        batch, length, width = x.shape
        q, k, v = self.attn_qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # each [B, H, L, dh]
        q, k = rotate(q, *rotary), rotate(k, *rotary)
        keys, values = (k, v) if past is None else (torch.cat((past[0], k), 2), torch.cat((past[1], v), 2))
        scores = (q @ keys.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(~mask, -torch.inf)
        mixed = scores.softmax(-1) @ values
        return self.attn_out(mixed.transpose(1, 2).reshape(batch, length, width)), (k, v)


class OutputLayer(nn.Module):
    """Final norm and head."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.norm_final = Norm(config.hidden_size)
        self.linear = nn.Linear(config.hidden_size, config.vocab_size)
        self.adaLN_modulation = nn.Linear(config.cond_size, 2 * config.hidden_size) if config.adaln else None

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        x = self.norm_final(x)
        if self.adaLN_modulation is not None and condition is not None:
            shift, scale = self.adaLN_modulation(condition).chunk(2)
            x = x * (1 + scale) + shift
        return self.linear(x)


class DitModule(nn.Module):
    """The whole network under a free attention mask."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.vocab_embed = Embedding(config.vocab_size, config.hidden_size)
        self.sigma_map = Timestep(config.cond_size) if config.adaln else None
        self.rotary_emb = Rotary(config.head_size)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.output_layer = OutputLayer(config)

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, mask: Tensor, past: list[KeyValue] | None = None
    ) -> tuple[Tensor, list[KeyValue]]:
        """Run the network.

        Args:
            input_ids, position_ids: int64 [B, L].
            mask: bool [B, 1, L, P + L], True where visible; every query must see something.
            past: per layer, keys (rotated) and values [B, H, P, dh].

        Returns:
            Logits [B, L, V] and, per layer, the keys and values [B, H, L, dh] of these tokens alone.
        """
        x = self.vocab_embed(input_ids)
        condition = F.silu(self.sigma_map()) if self.sigma_map is not None else None
        rotary = self.rotary_emb(position_ids, x.dtype)
        presents: list[KeyValue] = []
        for index, block in enumerate(self.blocks):
            x, present = block(x, condition, rotary, mask, past[index] if past else None)
            presents.append(present)
        return self.output_layer(x, condition), presents
