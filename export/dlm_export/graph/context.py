"""What every part of the graph is written with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ..backbones.backbone import Backbone
from ..precision import Arithmetic
from ..weights import Floats, LinearWeight, StackedWeight, WeightReader
from .builder import GraphBuilder


@dataclass(frozen=True)
class GraphContext:
    """The graph being written, where its weights come from, and in which numbers its products are computed.

    Values are float32 [B, L, ...] but for what `narrow` returns. Names of layers and tensors are the backbone's own; initializers get
    the checkpoint's.
    """

    b: GraphBuilder
    weights: WeightReader
    arithmetic: Arithmetic

    @property
    def backbone(self) -> Backbone:
        """The network that is written."""
        return self.weights.backbone

    def values(self, name: str) -> Floats:
        """A tensor of the checkpoint as numpy, for what is computed at export time."""
        return self.weights.read(name)[1]

    def vector(self, name: str) -> str:
        """A norm's weight, a bias or another small tensor: always float32."""
        key = self.weights.key(name)
        return key if key in self.b.initializers else self.b.weight(key, self.values(name))

    def linear(self, node: str, x: str, *, bias: bool = False, rows: bool = False) -> str:
        """The layer `{node}.weight` [out, in], and `{node}.bias`, applied to `x` [B, L, in], or with `rows` to loose rows [N, in]."""
        key, weight = self.weights.read(f"{node}.weight")
        return self._product(LinearWeight(node, key, weight.T), x, self.vector(f"{node}.bias") if bias else None, rows)

    def fused_linear(self, node: str, parts: Sequence[str], x: str, *, bias: bool = False, rows: bool = False) -> str:
        """Several layers of one input as one wide product, outputs side by side."""
        matrix = np.concatenate([self.values(f"{part}.weight").T for part in parts], axis=1)
        weight = LinearWeight(node, self.weights.key(f"{node}.weight"), matrix)
        offset = None
        if bias:
            offset = self.b.weight(self.weights.key(f"{node}.bias"), np.concatenate([self.values(f"{part}.bias") for part in parts]))
        return self._product(weight, x, offset, rows)

    def matrix(self, node: str, matrix: NDArray[Any], x: str, *, rows: bool = False) -> str:
        """A layer without bias whose [in, out] matrix was computed at export time."""
        return self._product(LinearWeight(node, f"{node}.weight", matrix), x, None, rows)

    def stacked_linear(self, node: str, count: int, parts: Callable[[int], Sequence[str]], x: str) -> str:
        """The same layer, without bias, of `count` experts, each on rows of its own: `x` [E, C, in] -> [E, C, out].

        `parts` names the layers of an expert whose outputs stand side by side. Where `x` has 1 for E, all experts get the same rows.
        """
        shapes = [self.weights.shapes[f"{part}.weight"] for part in parts(0)]

        def matrix(index: int) -> Floats:
            return np.concatenate([self.values(f"{part}.weight").T for part in parts(index)], axis=1)

        weight = StackedWeight(node, self.weights.key(f"{node}.weight"), count, shapes[0][1], sum(shape[0] for shape in shapes), matrix)
        return self.arithmetic.stacked_writer(node).write_stacked(self.b, x, weight)

    def embedding(self, name: str, ids: str, value: str) -> str:
        """Rows of the table `name` [V, D]: `ids` [B, L] -> `value` [B, L, D]."""
        key, table = self.weights.read(name)
        return self.arithmetic.embedding.write(self.b, key, table, ids, value)

    def head(self, x: str, name: str, *, bias: str | None = None, node: str = "logits") -> str:
        """`x` [B, W, D] by the table `name` [V, D] -> `node` [B, W, V]. A tied head names the embedding's table; `bias` is a tensor."""
        key, table = self.weights.read(name)
        return self._product(LinearWeight(node, key, table.T, is_head=True), x, self.vector(bias) if bias else None, False)

    def narrow(self, value: str) -> str:
        """A float32 value in the type that keys, values and attention products have."""
        kind = self.arithmetic.cache_type
        return value if kind == TensorProto.FLOAT else self.b.op("Cast", [value], f"{value}.narrow", to=kind)

    def wide(self, value: str) -> str:
        """What a product of narrow values gives, as float32."""
        return (
            value if self.arithmetic.cache_type == TensorProto.FLOAT else self.b.op("Cast", [value], f"{value}.wide", to=TensorProto.FLOAT)
        )

    def _product(self, weight: LinearWeight, x: str, offset: str | None, rows: bool) -> str:
        writer = self.arithmetic.writer(weight)
        like = None if rows else ("allow_rows" if weight.is_head else "input_ids")
        if offset is None:
            return writer.write(self.b, x, weight, like=like)
        product = writer.write(self.b, x, weight.renamed(f"{weight.node}.product"), like=like)
        return self.b.op("Add", [product, offset], weight.node)
