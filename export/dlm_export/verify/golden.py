"""Recorded logits of the reference implementation (a folder with logits.npz and meta.json), played on the exported graph.

A recording says who saw whom as an attention mask; the step graph is told the same by block ids and by what is in the past. This turns
one into the other from the mask alone, so that a recording's name decides nothing but which of two bounds it has to keep. Padding is left
out instead of masked, and every token keeps the position that was recorded for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import read_json_object
from ..errors import CheckpointError, shown
from ..families.config_fields import ConfigFields
from .compare import FP32_LOGITS_ABS
from .golden_arrays import COPY_AGAIN, Arrays, checked_arrays

LOGITS_FILE = "logits.npz"
META_FILE = "meta.json"


@dataclass(frozen=True)
class GoldenCase:
    """One recorded call, with the arrays that tests/fixtures/README.md names.

    `tolerance` bounds the largest difference on logits. `block_length` is that of the recording, None where the family has no blocks.
    """

    name: str
    arrays: Arrays
    tolerance: float
    block_length: int | None = None

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.arrays[name]

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    @property
    def visible(self) -> NDArray[np.bool_]:
        """[B, Q, K]: who sees whom; the first K - Q columns are cached."""
        return self.arrays["attention_bias"][:, 0] == 0


def golden_cases(folder: Path) -> list[GoldenCase]:
    """The recorded cases of a folder, in the order of meta.json. Raises CheckpointError for an unreadable recording."""
    meta = read_json_object(folder / META_FILE, COPY_AGAIN)
    names = meta.get("logits_cases")
    if not isinstance(names, dict | list) or not names:
        raise CheckpointError(folder / META_FILE, "lists no cases", COPY_AGAIN, item="logits_cases")
    file = folder / LOGITS_FILE
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise CheckpointError(file, f"cannot be read ({error})", COPY_AGAIN) from error
    block_length = ConfigFields(folder / META_FILE, meta).integer("block_size", 0) or None
    return [golden_case(file, name, arrays, tolerance(folder, meta, name), block_length) for name in names]


def golden_case(file: Path, name: object, arrays: Arrays, bound: float, block_length: int | None) -> GoldenCase:
    """One case, its arrays checked."""
    if not isinstance(name, str):
        raise CheckpointError(file.with_name(META_FILE), f"holds {shown(name)}, expected names", COPY_AGAIN, item="logits_cases")
    own = {key.split("__", 1)[1]: value for key, value in arrays.items() if key.startswith(f"{name}__")}
    return GoldenCase(name, checked_arrays(file, name, own), bound, block_length)


def tolerance(folder: Path, meta: dict[str, Any], name: object) -> float:
    """The bound on a case's logits: the recording's own, as it was made from how exact the reference is, else 1e-4.

    Positions in the ten thousands have a bound of theirs.
    """
    stated = ConfigFields(folder / META_FILE, meta).section("tolerance")
    if stated is None:
        return FP32_LOGITS_ABS
    general = stated.number("logits_abs", FP32_LOGITS_ABS, above=0)
    return stated.number("logits_abs_long", general, above=0) if name == "long_positions" else general
