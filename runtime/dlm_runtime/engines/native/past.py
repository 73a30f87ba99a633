"""The past on the device: sent there when it has changed, not with every step."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from dlm_runtime.engines.key_values import Array, KeyValues
from dlm_runtime.engines.native.layout import Layout
from dlm_runtime.engines.native.memory import Block, Memory

SLOTS = 4  # rows stand in several arenas, by length of query and context, that step in turn


@dataclass(slots=True)
class _Slot:
    number: int
    block: Block
    version: int | None = None
    layout: Layout | None = None


class DevicePast:
    """Up to `SLOTS` pasts with a version, each known by where it lies on the host, and one place for all that have none."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._slots: OrderedDict[Hashable, _Slot] = OrderedDict()
        self._passing = _Slot(SLOTS, memory.on_device())
        self._held: list[Array] = []

    def send(self, past: KeyValues, version: int | None) -> tuple[int, dict[str, int]]:
        """The slot that holds `past`, and the address of every layer's keys and values by input name.

        Nothing is copied when the same place holds the same version as the last time.
        """
        if version is None:
            slot = self._passing
            slot.layout = None
        else:
            slot = self._slot(tuple((array.ctypes.data, array.shape, array.strides) for array in past.arrays))
        if slot.layout is None:
            slot.layout = Layout.of({f"past.{layer}.{kind}": (array.shape, array.dtype) for layer, kind, array in past.per_layer()})
        moves = self._memory.moves
        addresses = slot.layout.addresses(slot.block.reserve(slot.layout.nbytes))
        if version is None or version != slot.version or self._memory.moves != moves:
            slot.version = None  # in case a copy fails
            self._copy(past, addresses)
            slot.version = version
        return slot.number, addresses

    def _slot(self, key: Hashable) -> _Slot:
        slot = self._slots.pop(key, None)
        if slot is None and len(self._slots) < SLOTS:
            slot = _Slot(len(self._slots), self._memory.on_device())
        elif slot is None:
            slot = self._slots.popitem(last=False)[1]
            slot.version, slot.layout = None, None
        self._slots[key] = slot
        return slot

    def _copy(self, past: KeyValues, addresses: dict[str, int]) -> None:
        self._held.clear()  # what the last copy read may go now
        for layer, kind, array in past.per_layer():
            lying = np.ascontiguousarray(array)
            self._held.append(lying)
            self._memory.device.send(addresses[f"past.{layer}.{kind}"], lying.ctypes.data, lying.nbytes)
