"""One layer of DiffusionGemma in plain torch: attention, then a feed-forward and a mixture of experts side by side."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..denoiser import RMSNorm, rotate
from .config import DiffusionGemmaConfig


def unit_rms(x: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm without a weight, in float32 at least."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention; queries and keys are normed with a weight, values without, and scores are not scaled."""

    def __init__(self, config: DiffusionGemmaConfig, layer: int) -> None:
        super().__init__()
        self.kind, self.eps = config.attention(layer), config.norm_eps
        width, dh = config.hidden_size, self.kind.head_dim
        self.q_proj = nn.Linear(width, config.heads * dh, bias=False)
        self.k_proj = nn.Linear(width, self.kind.kv_heads * dh, bias=False)
        self.v_proj = None if self.kind.window is None else nn.Linear(width, self.kind.kv_heads * dh, bias=False)
        self.o_proj = nn.Linear(config.heads * dh, width, bias=False)
        self.q_norm = RMSNorm(dh, config.norm_eps)
        self.k_norm = RMSNorm(dh, config.norm_eps)

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], visible: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """`x` [B, L, D], bool `visible` [B, 1, L, P + L] -> output [B, L, D] and this call's keys and values [B, Hkv, L, dh]."""
        batch, length, _ = x.shape
        q, raw_k = (proj(x).view(batch, length, -1, self.kind.head_dim).transpose(1, 2) for proj in (self.q_proj, self.k_proj))
        raw_v = raw_k if self.v_proj is None else self.v_proj(x).view(batch, length, -1, self.kind.head_dim).transpose(1, 2)
        q, k = rotate(self.q_norm(q), *rotary).to(x.dtype), rotate(self.k_norm(raw_k), *rotary).to(x.dtype)
        v = unit_rms(raw_v, self.eps)
        all_k, all_v = (k, v) if past is None else (torch.cat((past[0], k), 2), torch.cat((past[1], v), 2))
        out = F.scaled_dot_product_attention(q, all_k, all_v, attn_mask=visible, scale=1.0, enable_gqa=True)
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1)), (k, v)


class GatedMLP(nn.Module):
    """GELU-gated feed-forward (Shazeer 2020), GELU in its tanh approximation."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, size, bias=False)
        self.up_proj = nn.Linear(width, size, bias=False)
        self.down_proj = nn.Linear(size, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))


class Router(nn.Module):
    """Elects experts: the likeliest of a softmax, their shares made to sum to 1, then each times its expert's own scale."""

    def __init__(self, config: DiffusionGemmaConfig) -> None:
        super().__init__()
        self.eps, self.per_token = config.norm_eps, config.experts_per_token
        self.proj = nn.Linear(config.hidden_size, config.experts, bias=False)
        self.scale = nn.Parameter(torch.ones(config.hidden_size))
        self.per_expert_scale = nn.Parameter(torch.ones(config.experts))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`x` [N, D] -> ids of the elected [N, k] and their weights [N, k]."""
        scores = self.proj(unit_rms(x, self.eps) * self.scale * x.shape[-1] ** -0.5)
        shares, ids = scores.softmax(-1, dtype=torch.promote_types(x.dtype, torch.float32)).topk(self.per_token, dim=-1)
        return ids, (shares / shares.sum(-1, keepdim=True)).to(x.dtype) * self.per_expert_scale[ids]


class Expert(nn.Module):
    """One expert, gate and up in one matrix as the checkpoint stores them."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(width, 2 * size, bias=False)
        self.down_proj = nn.Linear(size, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(F.gelu(gate, approximate="tanh") * up)


class Experts(nn.ModuleList):
    """All experts of a layer."""

    def __init__(self, config: DiffusionGemmaConfig) -> None:
        super().__init__(Expert(config.hidden_size, config.expert_size) for _ in range(config.experts))

    def forward(self, x: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
        """`x` [N, D] through the experts `ids` [N, k], summed with `weights` [N, k]."""
        out = torch.zeros_like(x)
        for index, expert in enumerate(self):
            token, slot = torch.nonzero(ids == index, as_tuple=True)
            if len(token):
                out = out.index_add(0, token, expert(x[token]) * weights[token, slot, None])
        return out


class Layer(nn.Module):
    """Norms before and after every part; the layer's whole output is scaled, by another number in each role."""

    def __init__(self, config: DiffusionGemmaConfig, layer: int) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.norm_eps
        self.input_layernorm = RMSNorm(width, eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(width, eps)
        self.pre_feedforward_layernorm = RMSNorm(width, eps)
        self.mlp = GatedMLP(width, config.intermediate_size)
        self.post_feedforward_layernorm_1 = RMSNorm(width, eps)
        self.pre_feedforward_layernorm_2 = RMSNorm(width, eps)
        self.router = Router(config)
        self.experts = Experts(config)
        self.post_feedforward_layernorm_2 = RMSNorm(width, eps)
        self.post_feedforward_layernorm = RMSNorm(width, eps)
        self.encoder_layer_scalar = nn.Parameter(torch.ones(1))
        self.layer_scalar = nn.Parameter(torch.ones(1))

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], visible: Tensor, past: tuple[Tensor, Tensor] | None, *, encode: bool
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """See `Attention.forward`."""
        attended, present = self.self_attn(self.input_layernorm(x), rotary, visible, past)
        x = x + self.post_attention_layernorm(attended)
        common = self.post_feedforward_layernorm_1(self.mlp(self.pre_feedforward_layernorm(x)))
        rows = x.reshape(-1, x.shape[-1])
        elected = self.experts(self.pre_feedforward_layernorm_2(rows), *self.router(rows))  # the router has a norm of its own
        special = self.post_feedforward_layernorm_2(elected.view_as(x))
        x = x + self.post_feedforward_layernorm(common + special)
        return x * (self.encoder_layer_scalar if encode else self.layer_scalar), present
