"""Supervised attention: where a fact is copied, two heads are told which token of the card to look at.

Which fact a reply needs follows from the meaning of the question. A model this small, left to find that out from the copied tokens alone,
copies what it can match literally and guesses the rest for thousands of steps. The corpus knows where every copied token stands on the
card, so the heads that `initialise` sets up for copying get that as a target (compare supervised attention in translation, Liu et al.
2016, arXiv:1609.04186). At run time they are ordinary heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from dlm_export.backbones.denoiser import Attention, Denoiser, Layer, rotate
from torch import Tensor

from tavern_model.initialise import POINTING_HEAD, POINTING_LAYERS
from tavern_model.objective import IGNORE, NOT_NOISY, Batch


class Pointing:
    """Watches the pointing layers of a model during its forward pass and computes their loss afterwards."""

    def __init__(self, model: Denoiser) -> None:
        self._seen: dict[int, tuple] = {}
        self._attentions = {index: cast(Layer, model.layers[index]).self_attn for index in POINTING_LAYERS}
        for index, attention in self._attentions.items():
            attention.register_forward_pre_hook(self._remember(index))

    def _remember(self, index: int) -> Callable[[torch.nn.Module, tuple], None]:
        def hook(_: torch.nn.Module, inputs: tuple) -> None:
            self._seen[index] = inputs

        return hook

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Mean cross-entropy (nats) of the heads' attention against the sources, and how often its peak is right, after a forward pass."""
        wanted = batch.sources != IGNORE
        sources, noisy = batch.sources[wanted], batch.noisy[wanted] != NOT_NOISY
        losses, report = [], {}
        for index, attention in self._attentions.items():
            x, rotary, bias, _ = self._seen.pop(index)
            scores = head_scores(attention, POINTING_HEAD, x, rotary, bias)[wanted].float()
            losses.append(F.cross_entropy(scores, sources, reduction="sum") / max(1, len(sources)))
            right = (scores.detach().argmax(-1) == sources).float()
            for stream, selected in (("ar", ~noisy), ("diffusion", noisy)):
                report[f"{stream}_pointing_{index}"] = float((right * selected).sum() / selected.sum().clamp(min=1))
        return torch.stack(losses).mean(), report


def head_scores(attention: Attention, head: int, x: Tensor, rotary: tuple[Tensor, Tensor, Tensor], bias: Tensor) -> Tensor:
    """Attention logits [B, T, T] of one query head. `x` [B, T, D], additive `bias` [B, 1, T, T]."""
    dim, group = attention.config.head_dim, attention.config.heads // attention.config.kv_heads
    cos, sin, query_scale = rotary
    kv_head = head // group
    q = F.linear(x, attention.q_proj.weight[head * dim : (head + 1) * dim])[:, None]
    k = F.linear(x, attention.k_proj.weight[kv_head * dim : (kv_head + 1) * dim])[:, None]
    q, k = rotate(q, cos, sin) * query_scale, rotate(k, cos, sin)
    return (q.to(x.dtype) @ k.to(x.dtype).transpose(-1, -2) * dim**-0.5 + bias)[:, 0]
