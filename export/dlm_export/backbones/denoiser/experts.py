"""Mixture of experts in plain torch: the reference for graph/experts.py."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import DenoiserConfig, Experts


class GatedMLP(nn.Module):
    """SwiGLU feed-forward (Shazeer 2020)."""

    def __init__(self, hidden_size: int, intermediate_size: int, *, bias: bool = False) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=bias)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=bias)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Router(nn.Module):
    """Elects experts for every token."""

    def __init__(self, hidden_size: int, experts: Experts) -> None:
        super().__init__()
        self.experts = experts
        self.weight = nn.Parameter(torch.zeros(experts.count, hidden_size))
        if experts.score_bias:
            self.expert_bias = nn.Parameter(torch.zeros(experts.count))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`x` [N, D] -> ids of the elected [N, k] and their weights [N, k]."""
        e = self.experts
        logits = F.linear(x.to(torch.promote_types(x.dtype, torch.float32)), self.weight.to(torch.promote_types(x.dtype, torch.float32)))
        scores = logits.softmax(-1) if e.score == "softmax" else logits.sigmoid()
        standing = scores + self.expert_bias if e.score_bias else scores
        if e.groups > 1:
            grouped = standing.view(len(x), e.groups, -1)
            best = grouped.topk(2, dim=-1).values.sum(-1).topk(e.top_groups, dim=-1).indices
            elected_group = torch.zeros(len(x), e.groups, dtype=torch.bool, device=x.device).scatter_(1, best, True)
            standing = grouped.masked_fill(~elected_group[..., None], float("-inf")).view(len(x), -1)
        ids = standing.topk(e.per_token, dim=-1).indices
        weights = scores.gather(1, ids)
        if e.renormalise:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return ids, (weights * e.scale).to(x.dtype)


class MixtureOfExperts(nn.Module):
    """Router, experts, and the feed-forward that all tokens share where there is one."""

    def __init__(self, config: DenoiserConfig, experts: Experts) -> None:
        super().__init__()
        self.gate = Router(config.hidden_size, experts)
        self.experts = nn.ModuleList(GatedMLP(config.hidden_size, experts.intermediate_size) for _ in range(experts.count))
        self.shared_experts = GatedMLP(config.hidden_size, experts.shared_size) if experts.shared_size else None

    def forward(self, x: Tensor) -> Tensor:
        """`x` [B, L, D] -> [B, L, D]."""
        rows = x.reshape(-1, x.shape[-1])
        ids, weights = self.gate(rows)
        out = torch.zeros_like(rows)
        for index, expert in enumerate(self.experts):
            token, slot = torch.nonzero(ids == index, as_tuple=True)
            if len(token):
                out = out.index_add(0, token, expert(rows[token]) * weights[token, slot, None])
        if self.shared_experts is not None:
            out = out + self.shared_experts(rows)
        return out.view_as(x)
