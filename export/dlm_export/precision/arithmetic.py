"""In which numbers a graph computes: how its linear layers, its embedding and its cache are written."""

from __future__ import annotations

from dataclasses import dataclass, field

from onnx import TensorProto

from ..weights import LinearWeight
from .embedding import EmbeddingWriter, StoredEmbedding
from .float32 import Float32Linear
from .kept_layers import KeptLayers
from .linear import LinearWriter


@dataclass(frozen=True)
class Arithmetic:
    """One precision. Norms, softmax, rotary tables, routers and the unmasking are float32 in all of them.

    `cache_type` is the ONNX type of keys, values and attention products.
    """

    linear: LinearWriter = field(default_factory=Float32Linear)
    head: LinearWriter | None = None
    embedding: EmbeddingWriter = field(default_factory=StoredEmbedding)
    cache_type: int = TensorProto.FLOAT
    kept: KeptLayers = field(default_factory=KeptLayers)

    def writer(self, weight: LinearWeight) -> LinearWriter:
        """How a layer is written."""
        if weight.is_head:
            return self.linear if self.head is None else self.head
        return Float32Linear() if self.kept.keeps(weight.node) else self.linear

    def stacked_writer(self, node: str) -> LinearWriter:
        """How a layer of all experts together is written."""
        return Float32Linear() if self.kept.keeps(node) else self.linear
