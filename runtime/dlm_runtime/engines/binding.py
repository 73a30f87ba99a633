"""Buffers of one batch shape, bound to a session once and used for every step of that shape.

ONNX Runtime looks at shapes and addresses when something is bound, not when it runs, so a step costs a dozen small copies and no binding
at all while shape and past stay what they were.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort

from dlm_runtime.bundle import Manifest
from dlm_runtime.engines.base import Float32, StepBatch, StepResult

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
KINDS = ("key", "value")


class StepBinding:
    """Bound inputs and outputs of one (B, L, P, W, G, outputs) at one address of the past."""

    def __init__(self, session: ort.InferenceSession, manifest: Manifest, batch: StepBatch) -> None:
        self.bound = session.io_binding()
        self._manifest = manifest
        self._inputs = {name: np.zeros_like(getattr(batch, name), order="C") for name in SMALL_INPUTS}
        for name, array in self._inputs.items():
            self._bind_input(name, array)
        # A past that does not lie contiguously per layer has to be copied before every step; a contiguous one is read where it lies.
        lies_well = batch.past[0, 0].flags.c_contiguous
        # It is not held: the key matches only a batch whose past lies at that address now, and a dead arena is not kept alive.
        self._copied_past = None if lies_well else np.zeros(batch.past.shape, np.float32)
        for layer, kind, array in _per_layer(batch.past if self._copied_past is None else self._copied_past):
            self._bind_input(f"past.{layer}.{kind}", array)
        self._outputs = self._output_arrays(batch)
        for name, array in self._outputs.items():
            self._bind_output(name, array)
        self._present: Float32 | None = None
        if batch.want_present:
            self._present = self._bind_present(batch)

    @staticmethod
    def key(batch: StepBatch) -> tuple[object, ...]:
        """Equal for batches that may share a binding."""
        address = batch.past.ctypes.data if batch.past.size else 0
        wants = (batch.want_present, batch.want_confidence, batch.want_top, batch.want_logits)
        return (
            batch.input_ids.shape,
            batch.allow_rows.shape[1],
            batch.allow_table.shape[0],
            address,
            batch.past.shape,
            batch.past.strides,
            wants,
        )

    def fill(self, batch: StepBatch) -> None:
        """Copies the batch's small inputs into the bound buffers."""
        for name, buffer in self._inputs.items():
            buffer[...] = getattr(batch, name)
        if self._copied_past is not None:
            self._copied_past[...] = batch.past

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

    def _bind_present(self, batch: StepBatch) -> Float32:
        manifest = self._manifest
        rows, length = batch.input_ids.shape
        present = np.zeros((manifest.layers, 2, rows, manifest.kv_heads, length, manifest.head_dim), np.float32)
        for layer, kind, array in _per_layer(present):
            self._bind_output(f"present.{layer}.{kind}", array)
        return present

    def _bind_input(self, name: str, array: np.ndarray) -> None:
        self.bound.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def _bind_output(self, name: str, array: np.ndarray) -> None:
        self.bound.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def _per_layer(arrays: Float32) -> list[tuple[int, str, Float32]]:
    return [(layer, kind, arrays[layer, index]) for layer in range(arrays.shape[0]) for index, kind in enumerate(KINDS)]
