"""Keys and values of all layers, side by side in as few arrays as their shapes allow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dlm_runtime.bundle import CacheType, Manifest

Array = NDArray[Any]
Int64 = NDArray[np.int64]
KINDS = ("key", "value")
# NumPy has no bfloat16. Nothing here computes with keys and values, so their bits do.
ELEMENTS: dict[CacheType, DTypeLike] = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}
_ALL = slice(None)


@dataclass(frozen=True, slots=True)
class KeyValues:
    """Keys and values of B rows of T tokens. Layers of equal shape share an array, so a uniform model is one array.

    `arrays[g]` [layers of g, 2, B, Hkv, T, dh], keys at index 0 of the second axis and values at 1; `layers[g]` are the numbers of its
    layers.
    """

    layers: tuple[tuple[int, ...], ...]
    arrays: tuple[Array, ...]

    @staticmethod
    def zeros(manifest: Manifest, rows: int, tokens: int) -> KeyValues:
        """Room for `rows` rows of `tokens` tokens of this model."""
        return KeyValues._made(np.zeros, manifest, rows, tokens)

    @staticmethod
    def unfilled(manifest: Manifest, rows: int, tokens: int) -> KeyValues:
        """The same, of whatever numbers; for one that writes all of them before they are read."""
        return KeyValues._made(np.empty, manifest, rows, tokens)

    @staticmethod
    def _made(make: Callable[[tuple[int, ...], DTypeLike], Array], manifest: Manifest, rows: int, tokens: int) -> KeyValues:
        groups, element = manifest.layers_by_cache_shape, ELEMENTS[manifest.cache_type]
        arrays = [make((len(layers), 2, rows, heads, tokens, width), element) for (heads, width), layers in groups.items()]
        return KeyValues(tuple(groups.values()), tuple(arrays))

    @staticmethod
    def of(array: Array) -> KeyValues:
        """Those of a uniform model from one array [layers, 2, B, Hkv, T, dh]."""
        return KeyValues((tuple(range(array.shape[0])),), (array,))

    @staticmethod
    def joined(parts: Sequence[KeyValues]) -> KeyValues:
        """The tokens of `parts` one after another, copied."""
        pairs = zip(*(part.arrays for part in parts), strict=True)
        return KeyValues(parts[0].layers, tuple(np.concatenate(arrays, axis=4) for arrays in pairs))

    @property
    def rows(self) -> int:
        """B."""
        return self.arrays[0].shape[2]

    @property
    def tokens(self) -> int:
        """T."""
        return self.arrays[0].shape[4]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays)

    @property
    def location(self) -> tuple[object, ...]:
        """Where the arrays lie in this process's memory, and how; equal for views of the same elements. Empty arrays lie nowhere."""
        return tuple((array.ctypes.data if array.size else 0, array.shape, array.strides) for array in self.arrays)

    def part(self, rows: slice = _ALL, tokens: slice = _ALL) -> KeyValues:
        """A view of some rows and tokens."""
        return KeyValues(self.layers, tuple([array[:, :, rows, :, tokens] for array in self.arrays]))

    def repeated(self, rows: int) -> KeyValues:
        """A single row `rows` times, copied."""
        return KeyValues(self.layers, tuple(np.repeat(array, rows, axis=2) for array in self.arrays))

    def copy(self) -> KeyValues:
        """A copy that lies contiguously."""
        return KeyValues(self.layers, tuple(np.array(array, order="C") for array in self.arrays))

    def put(self, other: KeyValues) -> None:
        """Overwrites all with `other`, of the same size."""
        for mine, theirs in zip(self.arrays, other.arrays, strict=True):
            mine[...] = theirs

    def put_joined(self, parts: Sequence[KeyValues]) -> None:
        """Overwrites all with the tokens of `parts` one after another."""
        for group, mine in enumerate(self.arrays):
            np.concatenate([part.arrays[group] for part in parts], axis=4, out=mine)

    def put_tokens(self, rows: Int64, places: Int64, other: KeyValues, other_places: Int64) -> None:
        """Copies N single tokens: place `places[i]` of row `rows[i]` becomes place `other_places[i]` of that row of `other`. All [N]."""
        for mine, theirs in zip(self.arrays, other.arrays, strict=True):
            # Two index arrays around a slice put the indexed axis first: [N, layers, 2, Hkv] on both sides.
            _vectors(mine)[:, :, rows, :, places] = _vectors(theirs)[:, :, rows, :, other_places]

    def per_layer(self) -> Iterator[tuple[int, str, Array]]:
        """Number, "key" or "value", and array [B, Hkv, T, dh] of every layer, as the step graph has them."""
        for layers, array in zip(self.layers, self.arrays, strict=True):
            for index, layer in enumerate(layers):
                for kind, name in enumerate(KINDS):
                    yield layer, name, array[index, kind]


def _vectors(array: Array) -> Array:
    """The array with whole keys and values as its elements, which are copied in one piece: [layers, 2, B, Hkv, T]."""
    return array.view(np.dtype((np.void, array.shape[-1] * array.itemsize)))[..., 0]
