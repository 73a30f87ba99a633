"""A step of an engine against the same step of ONNX Runtime on the CPU."""

from __future__ import annotations

import numpy as np

from dlm_runtime.bundle import Manifest, Precision
from dlm_runtime.engines.base import Engine, StepBatch
from dlm_runtime.engines.key_values import KeyValues
from dlm_runtime.gpu_check.batches import KINDS
from dlm_runtime.gpu_check.check import CheckFailed
from dlm_runtime.gpu_check.decisions import wrong_decisions

# Relative to the largest logit. A card may multiply float32 with ten bits (TF32), and fp32 has room for that; wrong graphs are far off.
TOLERANCES: dict[Precision, float] = {"fp32": 5e-3, "fp16": 2e-2, "bf16": 1e-1, "int8": 5e-2, "int4": 5e-2}


def check_step(kind: str, engine: Engine, reference: Engine) -> str:
    """The sentence of a step that agrees. Raises CheckFailed naming what does not."""
    manifest = engine.manifest
    return compare(manifest, KINDS[kind](manifest), engine, reference)


def compare(manifest: Manifest, batch: StepBatch, engine: Engine, reference: Engine) -> str:
    """As above, for any batch that asks for logits and confidence."""
    tolerance = TOLERANCES[manifest.precision]
    theirs = reference.step(batch)
    expected = None if theirs.logits is None else theirs.logits.copy()
    present = None if theirs.present is None else theirs.present.copy()
    chosen, canvas = theirs.sampled_ids.copy(), theirs.canvas.copy()
    ours = engine.step(batch)
    if expected is None or ours.logits is None:
        raise CheckFailed("logits were asked for and left out")
    live = batch.window_start[:, None] + np.arange(batch.window_length) < batch.query_lengths[:, None]
    error = _error("logits", ours.logits[live], expected[live], tolerance)
    sentence = f"logits differ by at most {error}"
    if present is not None:
        if ours.present is None:
            raise CheckFailed("keys and values were asked for and left out")
        sentence += f", keys and values by {_present_error(batch, ours.present, present, manifest, tolerance)}"
    if wrong := list(wrong_decisions(manifest, batch, ours)):
        raise CheckFailed(f"{sentence}, but {'; '.join(wrong)}")
    same_words, same_canvas = (ours.sampled_ids == chosen)[live].mean(), (ours.canvas == canvas)[live].mean()
    return f"{sentence}; decisions follow from its logits; {same_words:.1%} of words and {same_canvas:.1%} of the canvas as on the CPU"


def _present_error(batch: StepBatch, ours: KeyValues, theirs: KeyValues, manifest: Manifest, tolerance: float) -> str:
    worst, largest = 0.0, 0.0
    real = np.arange(batch.input_ids.shape[1]) < batch.query_lengths[:, None]  # [B, L]
    for found, expected in zip(ours.arrays, theirs.arrays, strict=True):
        pair = [np.moveaxis(as_floats(array, manifest), 4, 3)[:, :, real] for array in (found, expected)]  # [layers, 2, real, Hkv, dh]
        if not np.isfinite(pair[0]).all():
            raise CheckFailed("keys and values hold numbers that are not finite")
        worst, largest = max(worst, float(np.abs(pair[0] - pair[1]).max())), max(largest, float(np.abs(pair[1]).max()))
    return _judged("keys and values", worst, largest, tolerance)


def _error(what: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> str:
    if not np.isfinite(ours).all():
        raise CheckFailed(f"{int((~np.isfinite(ours)).sum())} of {ours.size} {what} are not finite")
    return _judged(what, float(np.abs(ours - theirs).max()), float(np.abs(theirs).max()), tolerance)


def _judged(what: str, worst: float, largest: float, tolerance: float) -> str:
    if worst > tolerance * largest:
        raise CheckFailed(
            f"{what} differ by {worst:.3g}, where the largest is {largest:.3g}; at most {tolerance * largest:.3g} is rounding"
        )
    return f"{worst:.1e} (largest {largest:.3g})"


def as_floats(array: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Keys and values as float32, whatever they are kept in."""
    if manifest.cache_type == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)
