"""A recorded call of DiffusionGemma: the encoder over the prefix, then the decoder over one canvas."""

from __future__ import annotations

import numpy as np
from dlm_runtime.bundle import Manifest
from dlm_runtime.engines.base import THRESHOLD_OFF
from dlm_runtime.engines.neutral import neutral_inputs
from numpy.typing import NDArray

from ..errors import CheckpointError
from .compare import CaseResult, compare_logits
from .golden import LOGITS_FILE, GoldenCase
from .golden_arrays import COPY_AGAIN
from .session import Arrays, StepSession

Floats = NDArray[np.float32]


def replay_diffusion_gemma(session: StepSession, case: GoldenCase) -> CaseResult:
    """Play a case on the graph and compare the logits that count; the encoder's part shows in them."""
    if "prefix_ids" not in case:
        raise CheckpointError(LOGITS_FILE, "lacks prefix_ids, which this family's encoder reads", COPY_AGAIN, item=case.name)
    found, counts = play(session, case), case["compare"].astype(bool)
    return compare_logits(f"recorded {case.name}", found[counts], case["logits"][counts], tolerance=case.tolerance)


def play(session: StepSession, case: GoldenCase) -> Floats:
    """Logits [B, L, V] of the canvas `input_ids`, after soft-capping.

    `self_conditioning_logits` are there where the call was not the first on its canvas.
    """
    m, prefix, canvas, positions = session.manifest, case["prefix_ids"], case["input_ids"], case["position_ids"]
    prefix_positions = positions[:, :1] - prefix.shape[1] + np.arange(prefix.shape[1])
    encoder = tokens(prefix, prefix_positions, past_length=0, encode=True) | no_past(m, len(prefix))
    encoded = session.run(encoder | self_conditioning(m, len(prefix), None) | unmask_nothing(m, prefix.shape)).outputs
    past = {f"past.{name}": encoded[f"present.{name}"] for name in cache_names(m)}
    decoder = tokens(canvas, positions, past_length=prefix.shape[1], encode=False) | past
    conditioning = self_conditioning(m, len(canvas), case.arrays.get("self_conditioning_logits"))
    return session.run(decoder | conditioning | unmask_nothing(m, canvas.shape)).outputs["logits"]


def tokens(ids: NDArray[np.int64], positions: NDArray[np.int64], *, past_length: int, encode: bool) -> Arrays:
    """A batch without padding in one role."""
    rows, length = ids.shape
    return {
        "input_ids": ids,
        "position_ids": positions,
        "past_lengths": np.full(rows, past_length, np.int64),
        "query_lengths": np.full(rows, length, np.int64),
        "block_ids": np.tile(np.arange(length) if encode else np.zeros(length, np.int64), (rows, 1)),
        "encode": np.full(rows, encode),
    }


def cache_names(manifest: Manifest) -> list[str]:
    """What follows `past.` and `present.`."""
    return [f"{layer}.{part}" for layer in range(manifest.layers) for part in ("key", "value")]


def no_past(manifest: Manifest, rows: int) -> Arrays:
    """Keys and values of nothing."""
    shapes = {name: manifest.cache_shape(int(name.split(".")[0])) for name in cache_names(manifest)}
    return {f"past.{name}": np.zeros((rows, heads, 0, dim), manifest.cache_type) for name, (heads, dim) in shapes.items()}


def self_conditioning(manifest: Manifest, rows: int, logits: Floats | None) -> Arrays:
    """The previous step's logits [B, L, V], or that there was none."""
    nothing = np.zeros((rows, 1, manifest.vocab_size), np.float32)
    return {"self_conditioning": nothing if logits is None else logits, "self_conditioned": np.full(rows, logits is not None)}


def unmask_nothing(manifest: Manifest, shape: tuple[int, ...]) -> Arrays:
    """A window over all of [B, L], and settings under which no token is drawn or committed."""
    rows = shape[0]
    return neutral_inputs(rows) | {
        "window_start": np.zeros(rows, np.int64),
        "allow_rows": np.zeros(shape, np.int64),
        "allow_table": np.zeros((1, manifest.vocab_size), np.float32),
        "quota": np.zeros(rows, np.int64),
        "threshold": np.full(rows, THRESHOLD_OFF, np.float32),
        "temperature": np.zeros(rows, np.float32),
        "seed": np.zeros(rows, np.int64),
        "step": np.zeros(rows, np.int64),
    }
