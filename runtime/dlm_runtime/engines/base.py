"""What an engine is: one step of the model over a batch of rows, arrays in and arrays out.

docs/architecture.md says what every input and output of the step graph means. The shapes below use B rows, L tokens per row, P tokens of
past, W window positions, V tokens of the vocabulary, G rows of the allow-table, K top candidates, R recent tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dlm_runtime.bundle import Manifest
from dlm_runtime.engines.key_values import KeyValues

Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

THRESHOLD_OFF = 2.0  # no probability reaches it


@dataclass(slots=True)
class StepBatch:
    """Inputs of one step. Every array is C-contiguous, except that `past` need only be contiguous per layer and kind, and
    an engine may take an `allow_table` that cannot be written to as unchanged while it is the same object.

    Past beyond `past_lengths` and tokens beyond `query_lengths` are padding: masked, never seen by real tokens.
    The `want_*` flags say which outputs the caller will read; an engine leaves the others out, and may skip computing them.
    Inputs left at None are neutral: no row asks for anything of the kind (see neutral.py). `encode` and the two below it are for models
    with an encoder and a decoder, and ignored by others; S is L, or 1 where no row has any.
    """

    input_ids: Int64  # [B, L]
    position_ids: Int64  # [B, L]
    past_lengths: Int64  # [B]
    query_lengths: Int64  # [B]
    block_ids: Int64  # [B, L]; see visibility.py
    past: KeyValues  # B rows of P tokens
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
    shift: Int64 | None = None  # [B], 1 where the token before a position speaks for it, else 0
    factor: Float32 | None = None  # [B], of the factor rule, 0 for none
    measure: Int64 | None = None  # [B], what confidence is: 0 probability, 1 margin, 2 negative entropy
    rank_temperature: Float32 | None = None  # [B], noise on the ranking of positions
    scale: Float32 | None = None  # [B], factor of the logits
    sample_top_k: Int64 | None = None  # [B], 0 keeps all tokens; -k keeps k of what sample_top_p leaves
    sample_top_p: Float32 | None = None  # [B], 1 keeps all tokens
    repetition_penalty: Float32 | None = None  # [B], 1 punishes none
    recent_ids: Int64 | None = None  # [B, R], what is punished; -1 is no token
    guidance: Float32 | None = None  # [B], classifier-free, 0 for none
    guidance_rows: Int64 | None = None  # [B], the row of the batch without the prompt
    encode: Bool | None = None  # [B]
    self_conditioning: Float32 | None = None  # [B, S, V], logits of the step before, divided by its temperature
    self_conditioned: Bool | None = None  # [B]
    past_version: int | None = None  # another number whenever the past at this address has changed; None: it may have changed

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
    confidence: Float32 | None = None  # [B, W] by the row's measure (want_confidence)
    entropy: Float32 | None = None  # [B, W] nats (want_confidence)
    top_ids: Int64 | None = None  # [B, W, K] (want_top)
    top_logprobs: Float32 | None = None  # [B, W, K] (want_top)
    present: KeyValues | None = None  # B rows of L tokens (want_present)
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
