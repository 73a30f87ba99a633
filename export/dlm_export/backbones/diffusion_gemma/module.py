"""DiffusionGemma in plain torch: the reference that the exported graph is compared with.

One set of layers runs in two roles. The encoder reads committed tokens causally and leaves keys and values; the decoder reads a canvas,
which sees itself whole, against them. The roles differ in the layer scalars, in who sees whom, and in that the decoder adds what it
thought of the canvas one step before (self-conditioning; Chen et al. 2022, arXiv:2208.04202).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbone import KeyValue
from ..denoiser import RMSNorm
from .config import AttentionKind, DiffusionGemmaConfig
from .layers import Layer, unit_rms


class SelfConditioning(nn.Module):
    """Turns the embedding that the previous step expected at each position into something to add to the canvas."""

    def __init__(self, config: DiffusionGemmaConfig) -> None:
        super().__init__()
        self.eps = config.norm_eps
        self.pre_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, expected: Tensor) -> Tensor:
        """`x` and `expected` [B, L, D] -> [B, L, D]."""
        signal = self.pre_norm(expected)
        return unit_rms(x + self.down_proj(F.gelu(self.gate_proj(signal), approximate="tanh") * self.up_proj(signal)), self.eps)


class DiffusionGemma(nn.Module):
    """Encoder and decoder over tied weights, without the vision tower."""

    def __init__(self, config: DiffusionGemmaConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.self_conditioning = SelfConditioning(config)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        mask: Tensor,
        past: list[KeyValue] | None = None,
        *,
        encode: bool = False,
        self_conditioning: Tensor | None = None,
    ) -> tuple[Tensor, list[KeyValue]]:
        """Run the network in one role.

        Args:
            input_ids, position_ids: int64 [B, L].
            mask: bool [B, 1, L, P + L], True is visible, the past first; what full layers see. Sliding layers see their window of it.
            past: per layer, keys and values [B, Hkv, P, dh] of encoded tokens, without padding.
            encode: run as the encoder; else as the decoder.
            self_conditioning: the decoder's logits of the previous step [B, L, V], divided by the temperature; None on the first step.

        Returns:
            Logits [B, L, V] and, per layer, the keys and values [B, Hkv, L, dh] of these tokens alone.
        """
        hidden, presents = self.hidden(input_ids, position_ids, mask, past, encode=encode, self_conditioning=self_conditioning)
        cap = self.config.logit_cap
        return torch.tanh(hidden @ self.embed_tokens.weight.T / cap) * cap, presents

    def hidden(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        mask: Tensor,
        past: list[KeyValue] | None = None,
        *,
        encode: bool = False,
        self_conditioning: Tensor | None = None,
    ) -> tuple[Tensor, list[KeyValue]]:
        """As `forward`, but stop before the head: normed hidden states [B, L, D]."""
        config = self.config
        x = self.embed_tokens(input_ids) * config.embedding_scale
        if not encode:
            x = self.self_conditioning(x, torch.zeros_like(x) if self_conditioning is None else self.expected(self_conditioning))
        visible = {kind: self.visible(kind, mask, encode=encode) for kind in (config.sliding, config.full)}
        rotary = {kind: self.rotary(kind, position_ids) for kind in (config.sliding, config.full)}
        presents: list[KeyValue] = []
        for index, layer in enumerate(self.layers):
            kind = config.attention(index)
            x, present = layer(x, rotary[kind], visible[kind], past[index] if past else None, encode=encode)
            presents.append(present)
        return self.norm(x), presents

    def expected(self, logits: Tensor) -> Tensor:
        """The mean embedding [B, L, D] under logits [B, L, V]."""
        wide = logits.to(torch.promote_types(self.embed_tokens.weight.dtype, torch.float32))
        return wide.softmax(-1).to(self.embed_tokens.weight.dtype) @ self.embed_tokens.weight * self.config.embedding_scale

    def visible(self, kind: AttentionKind, mask: Tensor, *, encode: bool) -> Tensor:
        """What a kind of layer sees of `mask` [B, 1, L, P + L].

        The encoder's window moves with the query. The decoder's is what the last encoded token left in a rolling cache: the last
        `window - 1` tokens of the past, the same for the whole canvas, which itself is seen whole.
        """
        if kind.window is None:
            return mask
        length = mask.shape[2]
        column = torch.arange(mask.shape[3], device=mask.device) - (mask.shape[3] - length)  # 0 is this step's first token
        query = torch.arange(length, device=mask.device) if encode else torch.zeros(length, dtype=torch.int64, device=mask.device)
        return mask & (query[:, None] - column < kind.window)

    def rotary(self, kind: AttentionKind, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [B, 1, L, dh / 2], from float32 angles whatever the weights are."""
        angles = position_ids[:, None, :, None].float() * kind.inverse_frequencies().to(position_ids.device)
        return angles.cos(), angles.sin()
