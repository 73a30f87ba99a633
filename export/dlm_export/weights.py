"""Weights of the graph: read one at a time, under the checkpoint's own names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .checkpoint import Checkpoint

if TYPE_CHECKING:  # families and backbones are written with what is here
    from .backbones import Backbone
    from .families import Family, TensorSource

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LinearWeight:
    """A linear layer's weight, ready to multiply from the right.

    `node` names the layer in the graph, `initializer` the weight as the checkpoint calls it.
    """

    node: str
    initializer: str
    matrix: Floats  # [in, out]
    is_head: bool = False

    def renamed(self, node: str) -> LinearWeight:
        """The same weight for a node of another name."""
        return replace(self, node=node)


@dataclass(frozen=True)
class StackedWeight:
    """The same layer of every expert, read one by one. Names as in `LinearWeight`; the stack is [E, in, out]."""

    node: str
    initializer: str
    count: int
    size_in: int
    size_out: int
    matrix: Callable[[int], Floats]  # expert -> [in, out]

    @property
    def shape(self) -> tuple[int, int, int]:
        """[E, in, out]."""
        return self.count, self.size_in, self.size_out

    def matrices(self) -> Iterator[Floats]:
        """Every expert's [in, out], one in memory at a time."""
        return (self.matrix(index) for index in range(self.count))


@dataclass
class WeightReader:
    """Reads tensors of a backbone from a checkpoint and remembers which ones.

    `on_read` is told the stored bytes of each when it is read for the first time.
    """

    checkpoint: Checkpoint
    family: Family
    backbone: Backbone
    on_read: Callable[[int], None] = lambda size_bytes: None
    read_names: set[str] = field(default_factory=set)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes by the backbone's names; made once `check_tensors` has found them all in the checkpoint."""
        return dict(self.backbone.tensor_shapes())

    @property
    def read_keys(self) -> set[str]:
        """The checkpoint's names of all that was read."""
        return {self.source(name).key for name in self.read_names}

    def source(self, name: str) -> TensorSource:
        """Where a tensor lies in the checkpoint."""
        return self.family.source(name, self.shapes[name], self.backbone)

    def key(self, name: str) -> str:
        """The checkpoint's name of a tensor; what was fused here is named as if it had been stored so."""
        return self.family.checkpoint_key(name)

    def read(self, name: str) -> tuple[str, Floats]:
        """A tensor as float32, and the name it gets in the graph. Raises CheckpointError as `Checkpoint.read` does."""
        source = self.source(name)
        first_time = name not in self.read_names
        self.read_names.add(name)
        value = self.checkpoint.read(source.key, source.stored_shape, source.index)
        if value.shape != self.shapes[name]:
            raise ValueError(f"{name}: {source} gives {value.shape}, the backbone has {self.shapes[name]}")  # a mistake of the family's
        if first_time:
            self.on_read(value.size * self.checkpoint.item_bytes(source.key))
        return self.key(name), value


@dataclass(frozen=True)
class Totals:
    """All tensors of a backbone together."""

    numbers: int
    stored_bytes: int


def check_tensors(checkpoint: Checkpoint, family: Family, backbone: Backbone) -> Totals:
    """Raise CheckpointError for the first tensor that is missing or of another shape, before time or memory is spent on any."""
    numbers = stored_bytes = 0
    for name, shape in backbone.tensor_shapes():
        source = family.source(name, shape, backbone)
        checkpoint.file_of(source.key, source.stored_shape)
        size = math.prod(shape)
        numbers += size
        stored_bytes += size * checkpoint.item_bytes(source.key)
    return Totals(numbers, stored_bytes)
