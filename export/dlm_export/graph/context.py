"""What every part of the graph is written with."""

from __future__ import annotations

from dataclasses import dataclass

from ..denoiser import DenoiserConfig
from ..precision import LinearWriter
from ..weights import WeightReader
from .builder import GraphBuilder


@dataclass(frozen=True)
class GraphContext:
    """The graph being written, where its weights come from, and how its linear layers are written."""

    b: GraphBuilder
    weights: WeightReader
    linear_writer: LinearWriter

    @property
    def config(self) -> DenoiserConfig:
        """Sizes of the backbone."""
        return self.weights.config

    def linear(self, node: str, x: str) -> str:
        """A linear layer of the checkpoint applied to `x` [B, L, in]."""
        return self.linear_writer.write(self.b, x, self.weights.linear(node), like="input_ids")

    def fused_linear(self, node: str, parts: list[str], x: str) -> str:
        """Several linear layers of one input [B, L, in] as one product, outputs side by side."""
        return self.linear_writer.write(self.b, x, self.weights.fused(node, parts), like="input_ids")
