"""The diffusion transformer as a backbone: tensors, torch form, graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ...graph.context import GraphContext
from ...graph.step_values import StepValues
from ..backbone import Backbone
from .config import EMBEDDING, DitConfig
from .graph import build_blocks, build_output_layer
from .module import DitModule


@dataclass(frozen=True)
class DitBackbone(Backbone[DitConfig]):
    """See `Backbone`. Tensor names are those of `DitModule`."""

    embedding_name: ClassVar[str] = EMBEDDING

    def cache_shape(self, layer: int) -> tuple[int, int]:
        """The same in every layer."""
        return self.config.heads, self.config.head_size

    def tensor_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every tensor with its shape, one by one."""
        return self.config.tensor_shapes()

    def module(self) -> nn.Module:
        """The plain torch network."""
        return DitModule(self.config)

    def build_hidden(self, g: GraphContext, step: StepValues) -> str:
        """Embedding and all layers."""
        return build_blocks(g, self.config, step)

    def build_logits(self, g: GraphContext, x: str) -> str:
        """Final norm and head."""
        return build_output_layer(g, self.config, x)
