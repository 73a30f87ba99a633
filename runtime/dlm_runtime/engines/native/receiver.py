"""A step's outputs on their way back: the small ones in one copy, logits and keys and values only when they are wanted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import DTypeLike, NDArray

from dlm_runtime.bundle import Manifest
from dlm_runtime.engines.base import StepBatch, StepResult
from dlm_runtime.engines.key_values import ELEMENTS, KINDS, KeyValues
from dlm_runtime.engines.native.layout import Layout
from dlm_runtime.engines.native.memory import HostBlock, Memory
from dlm_runtime.engines.native.profiles import Sizes

SMALL: dict[str, tuple[str, DTypeLike]] = {
    "canvas": ("BW", np.int64),
    "sampled_ids": ("BW", np.int64),
    "committed": ("B", np.int64),
    "confidence": ("BW", np.float32),
    "entropy": ("BW", np.float32),
    "top_ids": ("BWK", np.int64),
    "top_logprobs": ("BWK", np.float32),
}
LOGITS = "logits"
_WANTED = {"confidence": "want_confidence", "entropy": "want_confidence", "top_ids": "want_top", "top_logprobs": "want_top"}


@dataclass(frozen=True, slots=True)
class Expected:
    """Where a step's outputs will lie on the device, and as what."""

    small: Layout
    logits: Layout
    present: Layout
    addresses: dict[str, int]


class Receiver:
    """Makes room for the outputs of a step and brings them back. Every output has room, as TensorRT leaves none out."""

    def __init__(self, memory: Memory, manifest: Manifest) -> None:
        self._memory = memory
        self._manifest = manifest
        self._layers = KeyValues.zeros(manifest, 0, 0).layers
        self._small, self._logits, self._present = memory.on_device(), memory.on_device(), memory.on_device()
        self._host_small, self._host_logits, self._host_present = memory.on_host(), memory.on_host(), memory.on_host()

    @staticmethod
    def outputs_of(manifest: Manifest) -> set[str]:
        """The names of all outputs of a model's step graph."""
        return {*SMALL, LOGITS, *(f"present.{layer}.{kind}" for layer in range(manifest.layers) for kind in KINDS)}

    def expect(self, batch: StepBatch, sizes: Sizes) -> Expected:
        """Room for the outputs of a step, on the device and for the wanted ones on the host."""
        named = sizes._asdict() | {"K": self._manifest.top_k}
        small = Layout.of({name: (tuple(named[letter] for letter in letters), dtype) for name, (letters, dtype) in SMALL.items()})
        logits = Layout.of({LOGITS: ((sizes.B, sizes.W, self._manifest.vocab_size), np.float32)})
        present = self._present_layout(sizes)
        addresses = small.addresses(self._small.reserve(small.nbytes))
        addresses |= logits.addresses(self._logits.reserve(logits.nbytes))
        addresses |= present.addresses(self._present.reserve(present.nbytes))
        self._host_small.reserve(small.nbytes)
        if batch.want_logits:
            self._host_logits.reserve(logits.nbytes)
        if batch.want_present:
            self._host_present.reserve(present.nbytes)
        return Expected(small, logits, present, addresses)

    def fetch(self, batch: StepBatch, expected: Expected) -> StepResult:
        """Starts the copies. The result's arrays are filled once the device has been waited for, and hold until the next step."""
        device = self._memory.device
        device.fetch(self._host_small.address, self._small.address, expected.small.nbytes)
        arrays = self._views(self._host_small, expected.small)
        wanted = {name: array for name, array in arrays.items() if name not in _WANTED or getattr(batch, _WANTED[name])}
        if batch.want_logits:
            device.fetch(self._host_logits.address, self._logits.address, expected.logits.nbytes)
            wanted |= self._views(self._host_logits, expected.logits)
        present = None
        if batch.want_present:
            device.fetch(self._host_present.address, self._present.address, expected.present.nbytes)
            present = self._key_values(expected.present)
        return StepResult(present=present, **wanted)

    @staticmethod
    def _views(block: HostBlock, layout: Layout) -> dict[str, NDArray]:
        return {name: block.array(place.offset, place.shape, place.dtype) for name, place in layout.places.items()}

    def _present_layout(self, sizes: Sizes) -> Layout:
        """Group by group, so that the layers of one lie at equal distances."""
        element = ELEMENTS[self._manifest.cache_type]
        tensors: dict[str, tuple[tuple[int, ...], DTypeLike]] = {}
        for layers in self._layers:
            heads, width = self._manifest.cache_shape(layers[0])
            shape = (sizes.B, heads, sizes.L, width)
            tensors |= {f"present.{layer}.{kind}": (shape, element) for layer in layers for kind in KINDS}
        return Layout.of(tensors)

    def _key_values(self, layout: Layout) -> KeyValues:
        arrays: list[NDArray] = []
        for layers in self._layers:
            key, value = (layout.places[f"present.{layers[0]}.{kind}"] for kind in KINDS)
            distance = value.offset - key.offset
            first = self._host_present.array(key.offset, key.shape, key.dtype)
            raw = self._host_present.array(key.offset, (2 * len(layers) * distance // key.dtype.itemsize,), key.dtype)
            arrays.append(as_strided(raw, (len(layers), 2, *key.shape), (2 * distance, distance, *first.strides)))
        return KeyValues(self._layers, tuple(arrays))
