"""The past in a device's memory: sent there when it has changed, not with every step."""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

import onnxruntime as ort

from dlm_runtime.engines.key_values import KeyValues


class RemotePast:
    """Copies of all layers' keys and values in `memory` ("cuda", ...), of ONNX Runtime's type `element`.

    While a block is denoised its past stays as it is, so of the many steps of a block only the first one sends it.
    """

    def __init__(self, past: KeyValues, memory: str, element: Any) -> None:
        self._version: int | None = None
        self._values = {
            (layer, kind): ort.OrtValue.ortvalue_from_shape_and_type(array.shape, element, memory, 0)
            for layer, kind, array in past.per_layer()
        }

    def bind(self, bound: ort.IOBinding) -> None:
        """Makes the copies the past of whatever runs with `bound`."""
        for (layer, kind), value in self._values.items():
            bound.bind_ortvalue_input(f"past.{layer}.{kind}", value)

    def update(self, past: KeyValues, version: int | None) -> None:
        """Sends `past` unless it is known to be what was sent last."""
        if version is not None and version == self._version:
            return
        self._version = None  # in case a copy fails
        for layer, kind, array in past.per_layer():
            self._values[layer, kind].update_inplace(array)
        self._version = version


class RemotePasts:
    """One remote past for each place on the host that a past lies at, however many batch shapes use it."""

    def __init__(self, memory: str, element: Any) -> None:
        self._memory = memory
        self._element = element
        self._pasts: WeakValueDictionary[tuple[object, ...], RemotePast] = WeakValueDictionary()

    def of(self, past: KeyValues) -> RemotePast:
        """That of `past`, kept as long as somebody holds it."""
        remote = self._pasts.get(past.location)
        if remote is None:
            remote = self._pasts[past.location] = RemotePast(past, self._memory, self._element)
        return remote
