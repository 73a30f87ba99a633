"""Batches of more rows than a plan takes: cut into portions, run one after another, joined again.

Rows do not look at each other but for guidance, where a row reads the logits of its `guidance_rows`; such rows stay together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from dlm_runtime.engines.base import Int64, StepBatch, StepResult
from dlm_runtime.engines.key_values import KeyValues
from dlm_runtime.errors import EngineError

_OF_THE_BATCH = ("past", "allow_table", "past_version", "guidance_rows")


def portions(batch: StepBatch, most: int) -> list[tuple[Int64, StepBatch]]:
    """Rows and batch of each portion, of at most `most` rows. Raises EngineError where more rows than that belong together."""
    return [(rows, _portion(batch, rows)) for rows in _row_numbers(batch, most)]


def joined(batch: StepBatch, parts: Sequence[tuple[Int64, StepResult]]) -> StepResult:
    """The result of the whole batch. A portion's result is overwritten by the next one's, so `parts` holds copies: see `kept`."""
    arrays: dict[str, Any] = {}
    for field in fields(StepResult):
        if field.name == "present" or getattr(parts[0][1], field.name) is None:
            continue
        first = getattr(parts[0][1], field.name)
        whole = arrays[field.name] = np.empty((batch.rows, *first.shape[1:]), first.dtype)
        for rows, result in parts:
            whole[rows] = getattr(result, field.name)
    if parts[0][1].present is not None:
        arrays["present"] = _present(batch.rows, parts)
    return StepResult(**arrays)


def kept(result: StepResult) -> StepResult:
    """A copy that outlives the engine's next step."""
    values = {field.name: getattr(result, field.name) for field in fields(StepResult)}
    return replace(result, **{name: value.copy() for name, value in values.items() if value is not None})


def _row_numbers(batch: StepBatch, most: int) -> list[Int64]:
    if batch.guidance_rows is None:
        return [np.arange(start, min(start + most, batch.rows)) for start in range(0, batch.rows, most)]
    cut: list[list[int]] = [[]]
    for family in _families(batch.guidance_rows):
        if len(family) > most:
            raise EngineError(
                f"{len(family)} rows are guided by one, the plan takes {most}", "Build for larger steps: dlm-export engine --max-batch N"
            )
        if len(cut[-1]) + len(family) > most:
            cut.append([])
        cut[-1] += family
    return [np.array(rows, np.int64) for rows in cut]


def _families(guidance_rows: Int64) -> list[list[int]]:
    """Rows that look at each other, over however many in between."""
    family = {row: [row] for row in range(len(guidance_rows))}
    for row, partner in enumerate(guidance_rows.tolist()):
        if family[row] is not family[partner]:
            family[row] += family[partner]
            for one in family[partner]:
                family[one] = family[row]
    return [rows for first, rows in family.items() if first == rows[0]]


def _portion(batch: StepBatch, rows: Int64) -> StepBatch:
    taken: slice | Int64 = slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) == rows[-1] - rows[0] + 1 else rows
    changed: dict[str, Any] = {
        field.name: value[rows]
        for field in fields(StepBatch)
        if field.name not in _OF_THE_BATCH and isinstance(value := getattr(batch, field.name), np.ndarray)
    }
    changed["past"] = KeyValues(batch.past.layers, tuple(array[:, :, taken] for array in batch.past.arrays))
    if batch.guidance_rows is not None:
        places = {int(row): place for place, row in enumerate(rows)}
        changed["guidance_rows"] = np.array([places[int(partner)] for partner in batch.guidance_rows[rows]], np.int64)
    return replace(batch, past_version=batch.past_version if isinstance(taken, slice) else None, **changed)


def _present(rows: int, parts: Sequence[tuple[Int64, StepResult]]) -> KeyValues:
    pieces = [(numbers, result.present) for numbers, result in parts if result.present is not None]
    arrays = []
    for group, first in enumerate(pieces[0][1].arrays):
        whole = np.empty((*first.shape[:2], rows, *first.shape[3:]), first.dtype)
        for numbers, present in pieces:
            whole[:, :, numbers] = present.arrays[group]
        arrays.append(whole)
    return KeyValues(pieces[0][1].layers, tuple(arrays))
