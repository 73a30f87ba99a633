"""Weights that half precision cannot hold, found and told by the checkpoint's own names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ..errors import CheckpointError
from ..weights import WeightReader

LARGEST_HALF = 65504
REMEDY = "Take --precision bf16, which holds numbers as large as float32 does"


class HalfOverflow(ValueError):
    """A weight is beyond fp16. `tensor` is what the graph calls it, which for fused layers is no name of the checkpoint's."""

    def __init__(self, tensor: str, peak: float) -> None:
        super().__init__(f"{tensor}: {peak:g} is beyond fp16's {LARGEST_HALF}")
        self.tensor = tensor
        self.peak = peak


@contextmanager
def located_overflow(weights: WeightReader) -> Iterator[None]:
    """Turn HalfOverflow into a CheckpointError that names file and tensor."""
    try:
        yield
    except HalfOverflow as error:
        raise checkpoint_error(weights, error) from error


def checkpoint_error(weights: WeightReader, error: HalfOverflow) -> CheckpointError:
    """Look again at what the layer may have been made of: the tensor of its name, else its siblings."""
    problem = f"holds {error.peak:g}, and fp16 ends at {LARGEST_HALF}"
    parent = error.tensor.rpartition(".")[0].rpartition(".")[0]
    names = {name: weights.key(name) for name in weights.shapes}
    exact = [name for name, key in names.items() if key == error.tensor]
    for name in exact or [name for name, key in names.items() if key.startswith(f"{parent}.")]:
        source = weights.source(name)
        value = weights.checkpoint.read(source.key, source.stored_shape, source.index)
        if np.abs(value).max(initial=0.0) > LARGEST_HALF:
            return CheckpointError(weights.checkpoint.file_of(source.key, source.stored_shape), problem, REMEDY, item=source.key)
    return CheckpointError(weights.checkpoint.path, problem, REMEDY, item=error.tensor)
