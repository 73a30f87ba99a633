"""BERT as a backbone: tensors, torch form, graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ...graph.context import GraphContext
from ...graph.step_values import StepValues
from ..backbone import Backbone
from .config import EMBEDDING, BertConfig
from .graph import build_encoder, build_head
from .module import Bert


@dataclass(frozen=True)
class BertBackbone(Backbone[BertConfig]):
    """See `Backbone`. Tensor names are those of `Bert`."""

    embedding_name: ClassVar[str] = EMBEDDING

    def cache_shape(self, layer: int) -> tuple[int, int]:
        """The same in every layer."""
        return self.config.heads, self.config.head_dim

    def tensor_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every tensor with its shape, one by one."""
        return self.config.tensor_shapes()

    def module(self) -> nn.Module:
        """The plain torch encoder."""
        return Bert(self.config)

    def build_hidden(self, g: GraphContext, step: StepValues) -> str:
        """Embeddings and all layers."""
        return build_encoder(g, self.config, step)

    def build_logits(self, g: GraphContext, x: str) -> str:
        """Dense layer, norm and head of masked language modelling."""
        return build_head(g, self.config, x)
