"""A batch's inputs on their way to the device: the small ones in one copy, the table and the past only when they have changed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dlm_runtime.bundle import Manifest
from dlm_runtime.engines.base import StepBatch
from dlm_runtime.engines.native.layout import Layout
from dlm_runtime.engines.native.memory import Memory
from dlm_runtime.engines.native.past import DevicePast
from dlm_runtime.engines.native.profiles import Sizes
from dlm_runtime.engines.neutral import neutral_inputs, neutral_roles

_INTS = (
    "past_lengths",
    "query_lengths",
    "window_start",
    "shift",
    "sample_top_k",
    "guidance_rows",
    "quota",
    "measure",
    "seed",
    "step",
)
_FLOATS = (
    "threshold",
    "factor",
    "temperature",
    "rank_temperature",
    "scale",
    "sample_top_p",
    "repetition_penalty",
    "guidance",
)
ROLES: dict[str, tuple[str, DTypeLike]] = {"encode": ("B", np.bool_), "self_conditioned": ("B", np.bool_)}
SMALL: dict[str, tuple[str, DTypeLike]] = {
    **dict.fromkeys(("input_ids", "position_ids", "block_ids"), ("BL", np.int64)),
    **dict.fromkeys(_INTS, ("B", np.int64)),
    **dict.fromkeys(_FLOATS, ("B", np.float32)),
    "allow_rows": ("BW", np.int64),
    "recent_ids": ("BR", np.int64),
}
TABLE, CONDITIONING = "allow_table", "self_conditioning"


@dataclass(frozen=True, slots=True)
class Sent:
    """Where the inputs of a step lie and how large they are. Equal `past_slot` and sizes say that they lie where they did."""

    addresses: dict[str, int]
    shapes: dict[str, tuple[int, ...]]
    past_slot: int


class Sender:
    """Sends batches to a plan with these `inputs`. The plan reads those named in `on_host` from host memory."""

    def __init__(self, memory: Memory, manifest: Manifest, inputs: Collection[str], on_host: Collection[str] = ()) -> None:
        self._memory = memory
        self._manifest = manifest
        self._has_roles = CONDITIONING in inputs
        self._small = SMALL | (ROLES if self._has_roles else {})
        self._on_host = frozenset(on_host)
        self._staging, self._device_small = memory.on_host(), memory.on_device()
        self._table, self._conditioning = memory.on_device(), memory.on_device()
        self._past = DevicePast(memory)
        self._sent_table: object = None
        self._held: NDArray[Any] | None = None

    @staticmethod
    def inputs_of(manifest: Manifest, has_roles: bool) -> set[str]:
        """The names of all inputs of a model's step graph."""
        past = {f"past.{layer}.{kind}" for layer in range(manifest.layers) for kind in ("key", "value")}
        return {*SMALL, TABLE, *past, *((*ROLES, CONDITIONING) if has_roles else ())}

    @staticmethod
    def small(has_roles: bool) -> set[str]:
        """The names of those that travel together."""
        return {*SMALL, *(ROLES if has_roles else ())}

    def send(self, batch: StepBatch, sizes: Sizes) -> Sent:
        """Starts the copies; what they read must stay as it is until the step is done."""
        neutral = self._neutral(batch.rows)
        addresses = self._send_small(batch, sizes, neutral)
        addresses[TABLE] = self._send_table(batch)
        if self._has_roles:
            addresses[CONDITIONING] = self._send_conditioning(batch, neutral)
        slot, past = self._past.send(batch.past, batch.past_version)
        return Sent(addresses | past, self._shapes(batch, sizes), slot)

    def _send_small(self, batch: StepBatch, sizes: Sizes, neutral: dict[str, NDArray[Any]]) -> dict[str, int]:
        layout = _layout(tuple(self._small.items()), sizes)
        host, device = self._staging.reserve(layout.nbytes), self._device_small.reserve(layout.nbytes)
        for name, place in layout.places.items():
            given = getattr(batch, name)
            self._staging.array(place.offset, place.shape, place.dtype)[...] = neutral[name] if given is None else given
        self._memory.device.send(device, host, layout.nbytes)
        return layout.addresses(device) | {name: host + layout.places[name].offset for name in self._on_host}

    def _send_table(self, batch: StepBatch) -> int:
        table = batch.allow_table
        moves = self._memory.moves
        address = self._table.reserve(table.nbytes)
        if table is not self._sent_table or self._memory.moves != moves:
            self._sent_table = None  # in case the copy fails
            self._memory.device.send(address, table.ctypes.data, table.nbytes)
            # Held, so that no other table takes its place in memory; one that can be written to may change and is sent every time.
            self._sent_table = None if table.flags.writeable else table
        return address

    def _send_conditioning(self, batch: StepBatch, neutral: dict[str, NDArray[Any]]) -> int:
        given = batch.self_conditioning
        self._held = np.ascontiguousarray(neutral[CONDITIONING] if given is None else given, np.float32)
        address = self._conditioning.reserve(self._held.nbytes)
        self._memory.device.send(address, self._held.ctypes.data, self._held.nbytes)
        return address

    def _neutral(self, rows: int) -> dict[str, NDArray[Any]]:
        return neutral_inputs(rows) | (neutral_roles(rows, self._manifest.vocab_size) if self._has_roles else {})

    def _shapes(self, batch: StepBatch, sizes: Sizes) -> dict[str, tuple[int, ...]]:
        shapes = {name: place.shape for name, place in _layout(tuple(self._small.items()), sizes).places.items()}
        shapes[TABLE] = batch.allow_table.shape
        if self._has_roles:
            shapes[CONDITIONING] = (sizes.B, sizes.S, self._manifest.vocab_size)
        return shapes | {f"past.{layer}.{kind}": array.shape for layer, kind, array in batch.past.per_layer()}


@lru_cache(maxsize=256)
def _layout(small: tuple[tuple[str, tuple[str, DTypeLike]], ...], sizes: Sizes) -> Layout:
    named = sizes._asdict()
    return Layout.of({name: (tuple(named[letter] for letter in letters), dtype) for name, (letters, dtype) in small})
