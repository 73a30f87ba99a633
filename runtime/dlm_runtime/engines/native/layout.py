"""Where tensors lie in a block, one behind another, so that one copy moves them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

_ALIGNMENT = 256  # what TensorRT wants of an address


@dataclass(frozen=True)
class Place:
    """A tensor in a block."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Without what fills the gap to the next one."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True)
class Layout:
    """Tensors by name, and how many bytes all of them take."""

    places: Mapping[str, Place]
    nbytes: int

    @staticmethod
    def of(tensors: Mapping[str, tuple[tuple[int, ...], DTypeLike]]) -> Layout:
        """In the order given, from shapes and element types."""
        places: dict[str, Place] = {}
        offset = 0
        for name, (shape, dtype) in tensors.items():
            places[name] = Place(offset, shape, np.dtype(dtype))
            offset += max(1, -(-places[name].nbytes // _ALIGNMENT)) * _ALIGNMENT  # an empty tensor has a place of its own, too
        return Layout(places, offset)

    def addresses(self, start: int) -> dict[str, int]:
        """Of all tensors, in a block at `start`."""
        return {name: start + place.offset for name, place in self.places.items()}
