"""Recorded logits of the reference implementation (a folder with logits.npz and meta.json) against the exported graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import read_json_object
from ..errors import CheckpointError
from .cases import Case, Row
from .compare import FP32_LOGITS_ABS, CaseResult, compare_logits
from .session import Past, StepAnswer, StepSession

LOGITS_FILE = "logits.npz"
META_FILE = "meta.json"
COPY_AGAIN = "Copy the recording again"
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class GoldenCase:
    """One recorded call."""

    name: str
    arrays: dict[str, NDArray[Any]]

    @property
    def causal_prefix(self) -> int:
        """How many leading tokens see nothing after them; the rest sees itself whole. All of them where the case is causal."""
        visible = (self.arrays["attention_bias"][0, 0] == 0).sum(-1)
        looks_ahead = np.flatnonzero(visible > np.arange(len(visible)) + 1)
        return int(looks_ahead[0]) if len(looks_ahead) else len(visible)

    def expected(self) -> tuple[Floats, NDArray[np.bool_]]:
        """Logits [B, Q, V] and which of them count [B, Q]; a cached case begins with its prefix."""
        logits, compare = self.arrays["logits"], self.arrays["compare"]
        if "prefix_logits" not in self.arrays:
            return logits, compare
        prefix = self.arrays["prefix_logits"]
        return np.concatenate((prefix, logits), 1), np.concatenate((np.ones(prefix.shape[:2], bool), compare), 1)


def golden_cases(folder: Path) -> list[GoldenCase]:
    """The recorded cases of a folder, in the order of meta.json. Raises CheckpointError for an unreadable recording."""
    names = list(read_json_object(folder / META_FILE, COPY_AGAIN).get("logits_cases", {}))
    file = folder / LOGITS_FILE
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise CheckpointError(file, f"cannot be read ({error})", COPY_AGAIN) from error
    cases = [GoldenCase(name, {key.split("__", 1)[1]: a for key, a in arrays.items() if key.startswith(f"{name}__")}) for name in names]
    for case in cases:
        if not {"input_ids", "position_ids", "attention_bias", "logits", "compare"} <= set(case.arrays):
            raise CheckpointError(file, "is not recorded whole", COPY_AGAIN, item=case.name)
    return cases


def run_golden(session: StepSession, case: GoldenCase, tolerances: dict[str, float]) -> CaseResult:
    """Run one recorded case through the graph, in as many steps as decoding would: causal prefix, then what sees itself whole."""
    ids, positions = case.arrays["input_ids"], case.arrays["position_ids"]
    prefix, causal = case.causal_prefix, case.causal_prefix
    if "prefix_ids" in case.arrays:
        ids = np.concatenate((case.arrays["prefix_ids"], ids), 1)
        prefix = causal = case.arrays["prefix_ids"].shape[1]
    rng = np.random.default_rng(0)
    first_position = int(positions[0, 0]) - (prefix if "prefix_ids" in case.arrays else 0)
    nothing = [np.empty(0, np.int64)] * len(ids)
    logits: list[Floats] = []
    pasts: list[Past] = [()] * len(ids)
    if causal:
        rows = tuple(Row(past, row[:causal], True, first_position) for past, row in zip(nothing, ids, strict=True))
        answer = session.answer(Case(case.name, rows), pasts, rng)
        logits.append(answer.outputs["logits"])
        pasts = presents(answer, session.manifest.layers)
    if causal < ids.shape[1]:
        rows = tuple(Row(row[:causal], row[causal:], False, first_position) for row in ids)
        logits.append(session.answer(Case(case.name, rows), pasts, rng).outputs["logits"])
    expected, compare = case.expected()
    tolerance = tolerances.get(case.name, tolerances[""])
    return compare_logits(f"recorded {case.name}", np.concatenate(logits, 1)[compare], expected[compare], tolerance=tolerance)


def presents(answer: StepAnswer, layers: int) -> list[Past]:
    """Every row's keys and values of a step without padding."""
    outputs = answer.outputs
    rows = len(outputs["logits"])
    return [[(outputs[f"present.{i}.key"][row], outputs[f"present.{i}.value"][row]) for i in range(layers)] for row in range(rows)]


def golden_tolerances(folder: Path) -> dict[str, float]:
    """Bounds on logits by case; the empty name is the general one, `long_positions` has its own."""
    stated = read_json_object(folder / META_FILE, COPY_AGAIN).get("tolerance", {})
    general = float(stated.get("logits_abs", FP32_LOGITS_ABS))
    return {"": general, "long_positions": float(stated.get("logits_abs_long", general))}
