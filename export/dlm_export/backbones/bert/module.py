"""The plain torch form of BERT (Devlin et al. 2019, arXiv:1810.04805) with its masked language modelling head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..backbone import KeyValue
from ..denoiser import grouped_attention
from .activation import activate
from .config import BertConfig


class Layer(nn.Module):
    """Attention, then feed-forward, each added to what came in and normed afterwards."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.attention_out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, config.norm_eps)
        self.up = nn.Linear(width, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, width)
        self.output_norm = nn.LayerNorm(width, config.norm_eps)

    def forward(self, x: Tensor, bias: Tensor, past: KeyValue | None) -> tuple[Tensor, KeyValue]:
        """`x` [B, L, D], additive `bias` [B, 1, L, P + L] -> output [B, L, D] and this call's keys and values."""
        batch, length, width = x.shape
        q, k, v = (part(x).view(batch, length, self.config.heads, -1).transpose(1, 2) for part in (self.query, self.key, self.value))
        keys, values = (k, v) if past is None else (torch.cat((past[0], k), 2), torch.cat((past[1], v), 2))
        mixed = grouped_attention(q, keys, values, bias).transpose(1, 2).reshape(batch, length, width)
        x = self.attention_norm(x + self.attention_out(mixed))
        return self.output_norm(x + self.down(activate(self.up(x), self.config.activation))), (k, v)


class Bert(nn.Module):
    """The encoder under a free attention mask."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width)
        self.position_embeddings = nn.Embedding(config.positions, width)
        self.token_type_embeddings = nn.Embedding(config.token_types, width)
        self.embedding_norm = nn.LayerNorm(width, config.norm_eps)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.transform = nn.Linear(width, width)
        self.transform_norm = nn.LayerNorm(width, config.norm_eps)
        self.head = nn.Linear(width, config.vocab_size)
        if config.tied:
            self.head.weight = self.word_embeddings.weight

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, mask: Tensor, past: list[KeyValue] | None = None
    ) -> tuple[Tensor, list[KeyValue]]:
        """Run the encoder and its head.

        Args:
            input_ids, position_ids: int64 [B, L]; positions lie inside the table, IndexError otherwise.
            mask: bool [B, 1, L, P + L], True where visible; every query must see something.
            past: per layer, keys and values [B, H, P, dh].

        Returns:
            Logits [B, L, V] and, per layer, the keys and values [B, H, L, dh] of these tokens alone.
        """
        summed = self.word_embeddings(input_ids) + self.token_type_embeddings.weight[0] + self.position_embeddings(position_ids)
        x = self.embedding_norm(summed)
        bias = torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, -torch.inf)
        presents: list[KeyValue] = []
        for index, layer in enumerate(self.layers):
            x, present = layer(x, bias, past[index] if past else None)
            presents.append(present)
        return self.head(self.transform_norm(activate(self.transform(x), self.config.activation))), presents
