"""What an engine is: one step of the model over a batch of rows, arrays in and arrays out.

The graph's contract, with the meaning of every input, is drawn in docs; the shapes below use
B rows, L tokens per row, P tokens of past, W window positions, V words of vocabulary, G rows of the allow-table, K top candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dlm_runtime.bundle import Manifest

Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]

THRESHOLD_OFF = 2.0  # no probability reaches it


@dataclass(slots=True)
class StepBatch:
    """Inputs of one step. Every array is C-contiguous, except that `past` need only be contiguous per layer and kind.

    Past beyond `past_lengths` and tokens beyond `query_lengths` are padding: masked, never seen by real tokens.
    The `want_*` flags say which outputs the caller will read; an engine leaves the others out, and may skip computing them.
    """

    input_ids: Int64  # [B, L]
    position_ids: Int64  # [B, L]
    past_lengths: Int64  # [B]
    query_lengths: Int64  # [B]
    block_ids: Int64  # [B, L]; token i sees token j of its row if block_ids[j] <= block_ids[i]
    past: Float32  # [layers, 2, B, Hkv, P, dh]; keys at index 0 of the second axis, values at 1
    window_start: Int64  # [B]
    allow_rows: Int64  # [B, W]
    allow_table: Float32  # [G, V]
    quota: Int64  # [B]
    threshold: Float32  # [B]
    temperature: Float32  # [B]
    seed: Int64  # [B]
    step: Int64  # [B]
    want_present: bool = False
    want_confidence: bool = False
    want_top: bool = False
    want_logits: bool = False

    @property
    def rows(self) -> int:
        """B."""
        return self.input_ids.shape[0]

    @property
    def window_length(self) -> int:
        """W."""
        return self.allow_rows.shape[1]


@dataclass(slots=True)
class StepResult:
    """Outputs of one step. Arrays belong to the engine and are valid until its next step; outputs not asked for are None."""

    canvas: Int64  # [B, W] window tokens, newly committed ones filled in
    sampled_ids: Int64  # [B, W] drawn or best token of every window position, masked or not
    committed: Int64  # [B] how many were newly committed
    confidence: Float32 | None = None  # [B, W] probability of sampled_ids (want_confidence)
    entropy: Float32 | None = None  # [B, W] nats (want_confidence)
    top_ids: Int64 | None = None  # [B, W, K] (want_top)
    top_logprobs: Float32 | None = None  # [B, W, K] (want_top)
    present: Float32 | None = None  # [layers, 2, B, Hkv, L, dh] (want_present)
    logits: Float32 | None = None  # [B, W, V] (want_logits)


class Engine(Protocol):
    """Runs steps, one at a time, always from the same thread. `step` raises EngineError and stays usable afterwards."""

    @property
    def manifest(self) -> Manifest: ...

    def step(self, batch: StepBatch) -> StepResult:
        """One forward pass. Reads `batch` without keeping or changing it."""
        ...

    def close(self) -> None:
        """Frees the model. Calling it twice is harmless."""
        ...
