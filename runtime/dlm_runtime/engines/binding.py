"""Buffers of one batch shape, bound to a session once and used for every step of that shape.

ONNX Runtime looks at shapes and addresses when something is bound, not when it runs, so a step costs a dozen small copies and no binding
at all while shape and past stay what they were.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort

from dlm_runtime.bundle import CacheType, Manifest
from dlm_runtime.engines.base import StepBatch, StepResult
from dlm_runtime.engines.key_values import KeyValues
from dlm_runtime.engines.neutral import neutral_inputs, neutral_roles
from dlm_runtime.engines.remote_past import RemotePasts

SMALL_INPUTS = (
    "input_ids",
    "position_ids",
    "past_lengths",
    "query_lengths",
    "block_ids",
    "window_start",
    "allow_rows",
    "allow_table",
    "quota",
    "threshold",
    "temperature",
    "seed",
    "step",
)
OPTIONAL_INPUTS = (*neutral_inputs(0), *neutral_roles(0, 0))
_BFLOAT16 = 16  # its number among ONNX element types; NumPy has no such type


def element_of(cache_type: CacheType) -> Any:
    """The type of keys and values as ONNX Runtime takes it."""
    return _BFLOAT16 if cache_type == "bfloat16" else np.dtype(cache_type).type


class StepBinding:
    """Bound inputs and outputs of one (B, L, P, W, G, R, outputs) at one address of the past.

    `remote` keeps pasts in a device's memory; None leaves them where they lie.
    """

    def __init__(self, session: ort.InferenceSession, manifest: Manifest, batch: StepBatch, remote: RemotePasts | None = None) -> None:
        self.bound = session.io_binding()
        self._manifest = manifest
        self._cache_element = element_of(manifest.cache_type)
        self._table: object = None
        neutral = neutral_inputs(batch.rows)
        if any(node.name == "encode" for node in session.get_inputs()):
            neutral |= neutral_roles(batch.rows, manifest.vocab_size)
        given = [name for name in neutral if getattr(batch, name) is not None]
        self._inputs = {name: np.zeros_like(getattr(batch, name), order="C") for name in (*SMALL_INPUTS, *given)}
        self._neutral = {name: array for name, array in neutral.items() if name not in self._inputs}  # never written, so bound as they are
        for name, array in (self._inputs | self._neutral).items():
            self._bind_input(name, array)
        # A past that does not lie contiguously per layer has to be copied before every step; a contiguous one is read where it lies.
        lies_well = all(array[0, 0].flags.c_contiguous for array in batch.past.arrays)
        # It is not held: the key matches only a batch whose past lies at that address now, and a dead arena is not kept alive.
        self._copied_past = None if lies_well else batch.past.copy()
        past = self._copied_past or batch.past
        self._remote = None if remote is None or not past.tokens else remote.of(past)
        if self._remote is not None:
            self._remote.bind(self.bound)
        else:
            for layer, kind, array in past.per_layer():
                self.bound.bind_input(f"past.{layer}.{kind}", "cpu", 0, self._cache_element, array.shape, array.ctypes.data)
        self._outputs = self._output_arrays(batch)
        for name, array in self._outputs.items():
            self._bind_output(name, array)
        self._present: KeyValues | None = None
        if batch.want_present:
            self._present = self._bind_present(batch)

    @staticmethod
    def key(batch: StepBatch) -> tuple[object, ...]:
        """Equal for batches that may share a binding."""
        wants = (batch.want_present, batch.want_confidence, batch.want_top, batch.want_logits)
        given = tuple(None if (array := getattr(batch, name)) is None else array.shape for name in OPTIONAL_INPUTS)
        return (
            batch.input_ids.shape,
            batch.allow_rows.shape[1],
            batch.allow_table.shape[0],
            batch.past.location,
            wants,
            given,
        )

    def fill(self, batch: StepBatch) -> None:
        """Copies the batch's small inputs into the bound buffers."""
        for name, buffer in self._inputs.items():
            if name != "allow_table" or batch.allow_table is not self._table:  # the table is as wide as the vocabulary and rarely another
                buffer[...] = getattr(batch, name)
        self._table = None if batch.allow_table.flags.writeable else batch.allow_table
        if self._copied_past is not None:
            self._copied_past.put(batch.past)
        if self._remote is not None:
            self._remote.update(self._copied_past or batch.past, batch.past_version)

    def result(self) -> StepResult:
        """The bound outputs; overwritten by the next step of this shape."""
        return StepResult(present=self._present, **self._outputs)

    def _output_arrays(self, batch: StepBatch) -> dict[str, Any]:
        window = batch.allow_rows.shape
        arrays: dict[str, Any] = {
            "canvas": np.zeros(window, np.int64),
            "sampled_ids": np.zeros(window, np.int64),
            "committed": np.zeros(batch.rows, np.int64),
        }
        if batch.want_confidence:
            arrays |= {"confidence": np.zeros(window, np.float32), "entropy": np.zeros(window, np.float32)}
        if batch.want_top:
            shape = (*window, self._manifest.top_k)
            arrays |= {"top_ids": np.zeros(shape, np.int64), "top_logprobs": np.zeros(shape, np.float32)}
        if batch.want_logits:
            arrays["logits"] = np.zeros((*window, self._manifest.vocab_size), np.float32)
        return arrays

    def _bind_present(self, batch: StepBatch) -> KeyValues:
        present = KeyValues.zeros(self._manifest, *batch.input_ids.shape)
        for layer, kind, array in present.per_layer():
            self.bound.bind_output(f"present.{layer}.{kind}", "cpu", 0, self._cache_element, array.shape, array.ctypes.data)
        return present

    def _bind_input(self, name: str, array: np.ndarray) -> None:
        self.bound.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def _bind_output(self, name: str, array: np.ndarray) -> None:
        self.bound.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
