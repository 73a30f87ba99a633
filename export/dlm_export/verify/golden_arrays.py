"""The arrays of a recorded call: which there may be, and what makes them fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError

Arrays = dict[str, NDArray[Any]]
COPY_AGAIN = "Copy the recording again"
INTS, FLOATS, BOOLS = (np.integer, np.int64), (np.floating, np.float32), (np.bool_, np.bool_)
NEEDED = {"input_ids": (INTS, 2), "position_ids": (INTS, 2), "attention_bias": (FLOATS, 4), "logits": (FLOATS, 3), "compare": (BOOLS, 2)}
OPTIONAL = {
    "prefix_ids": (INTS, 2),
    "prefix_logits": (FLOATS, 3),
    "canvas0": (INTS, 2),
    "block0": (INTS, 2),
    "s": (INTS, 0),
    "e": (INTS, 0),
    "replace_position": (INTS, 0),
    "self_conditioning_logits": (FLOATS, 3),
}
PARTNERS = {"canvas0": "s", "block0": "replace_position", "replace_position": "prefix_ids", "prefix_logits": "prefix_ids"}


def checked_arrays(file: Path, case: str, arrays: Arrays) -> Arrays:
    """The arrays, those that are played in one type each. Raises CheckpointError where one is missing or does not fit."""
    if not arrays.keys() >= NEEDED.keys():
        raise CheckpointError(file, f"lacks {', '.join(sorted(NEEDED.keys() - arrays.keys()))}", COPY_AGAIN, item=case)
    checked: Arrays = {}
    for name, ((kind, stored_as), rank) in (NEEDED | OPTIONAL).items():
        if name in arrays:
            value = arrays[name]
            if not np.issubdtype(value.dtype, kind) or value.ndim != rank:
                problem = f"is {value.dtype} of {value.ndim} dimensions, expected {np.dtype(stored_as)} of {rank}"
                raise CheckpointError(file, problem, COPY_AGAIN, item=f"{case}__{name}")
            checked[name] = value.astype(stored_as)
    if not fits(checked):
        raise CheckpointError(file, "has arrays that do not fit together", COPY_AGAIN, item=case)
    return arrays | checked


def fits(arrays: Arrays) -> bool:
    """Whether shapes agree, ids are ids, tokens see themselves, and something is to be compared with finite numbers."""
    rows, bias, logits, compare = arrays["input_ids"].shape, arrays["attention_bias"], arrays["logits"], arrays["compare"]
    shapes = arrays["position_ids"].shape == compare.shape == logits.shape[:2] == rows and min(rows) > 0
    shapes = shapes and (bias.shape[0], bias.shape[2]) == rows and bias.shape[1] == 1 and bias.shape[3] >= rows[1]
    shapes = shapes and all(arrays[name].shape[0] == rows[0] for name in ("prefix_ids", "canvas0", "block0") if name in arrays)
    partners = all(PARTNERS[name] in arrays for name in arrays if name in PARTNERS)
    if not shapes or not partners or not compare.any(axis=1).all() or not np.isfinite(logits[compare]).all():
        return False
    itself = np.diagonal(bias[:, 0, :, bias.shape[3] - rows[1] :], axis1=1, axis2=2) == 0
    if not itself[compare].all():
        return False
    ids = (arrays[name] for name in ("input_ids", "prefix_ids", "canvas0", "block0") if name in arrays)
    if arrays["position_ids"].min() < 0 or not all(((array >= 0) & (array < logits.shape[2])).all() for array in ids):
        return False
    prefix_logits, conditioning = arrays.get("prefix_logits"), arrays.get("self_conditioning_logits")
    if prefix_logits is not None and prefix_logits.shape != (*arrays["prefix_ids"].shape, logits.shape[2]):
        return False
    return (conditioning is None or conditioning.shape == logits.shape) and cached_columns(arrays) == bias.shape[3] - rows[1]


def cached_columns(arrays: Arrays) -> int:
    """How many columns are left in the cache by what ran before the call."""
    if "canvas0" in arrays:
        canvas = range(arrays["canvas0"].shape[1])
        return len(canvas) - len(canvas[int(arrays["s"]) : int(arrays["e"]) if "e" in arrays else None])
    prefix = arrays["prefix_ids"].shape[1] if "prefix_ids" in arrays else 0
    return prefix + (int(arrays["replace_position"]) if "replace_position" in arrays else 0)
