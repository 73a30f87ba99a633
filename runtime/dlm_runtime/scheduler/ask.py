"""From a slate to the arrays of one forward pass of all its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlm_runtime.engines.base import THRESHOLD_OFF, Float32, Int64, StepBatch
from dlm_runtime.engines.key_values import KeyValues
from dlm_runtime.policies.passes import NEXT_TOKEN_STEP, Until
from dlm_runtime.policies.sampler import Bools
from dlm_runtime.scheduler.recent import recent_ids
from dlm_runtime.scheduler.slate import Phase, Slate
from dlm_runtime.scheduler.tables import NO_WORD_ROW, AllowTable

_OPTIONAL = {  # numbers of the slate, and the inputs they are
    **{name: name for name in ("shift", "factor", "measure", "rank_temperature", "encode")},
    **{"top_k": "sample_top_k", "top_p": "sample_top_p", "penalty": "repetition_penalty"},
}
_WINDOWS = (1, 2, 4, 8, 16)  # then multiples of 16: few different shapes, little waste


@dataclass(frozen=True, slots=True)
class Frame:
    """What stays the same from pass to pass while no row begins, ends or turns to something else."""

    longest: int  # L
    columns: Int64  # [L]
    places: Int64  # [n, 1]
    inputs: dict[str, NDArray[Any]]  # of the batch; those that are neutral for every row are left out
    table: Float32  # [G, V]
    allow: Int64  # [n, 1], every row's row of the table
    fills: Bools  # [n], whether the step itself may fill something in
    any: dict[str, bool]  # whether a number of the slate is anything but neutral in any row
    any_scaled: bool
    any_settles: bool
    any_verifies: bool
    all_single: bool  # every row draws one token after another

    @staticmethod
    def of(slate: Slate, table: AllowTable, exact: int) -> Frame:
        """The frame of the rows that are there."""
        n = len(slate)
        rows = slice(n)
        found = slate.any_of()
        longest = int(np.maximum(slate.length[rows], slate.start[rows] + exact).max())
        columns = np.arange(longest)
        fills = ~slate.next_token[rows]
        if found["sampler"]:
            fills &= slate.sampler[rows] == 0
        return Frame(
            longest=longest,
            columns=columns,
            places=np.arange(n)[:, None],
            inputs=_inputs(slate, found, columns, fills),
            table=table.whole if found["outside"] or found["allow"] else table.usual,
            allow=slate.allow[rows, None],
            fills=fills,
            any=found,
            any_scaled=bool((slate.scales[rows] != 1.0).any()),
            any_settles=bool((slate.until[rows] == Until.SETTLED).any()),
            any_verifies=found["phase"] and bool((slate.phase[rows] == Phase.VERIFY).any()),
            all_single=longest == 1 and bool((slate.phase[rows] == Phase.VERIFY).all()),
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """A pass that is about to be run: the batch, and where every row's window lies in it."""

    frame: Frame
    batch: StepBatch
    window_start: Int64  # [n], query column of the batch's first window position
    number: Int64  # [n], of this pass, for draws and quotas


def ask(slate: Slate, frame: Frame, past: KeyValues, *, guided: bool, exact: int, past_version: int | None = None) -> Asked:
    """The next pass of every row. Where `guided`, each row is followed by a twin, in which the prompt is masked, n rows further on.

    `exact` > 0 is the width of everybody's window, which must not be any wider.
    """
    rows = slice(len(slate))
    number = slate.first_step[rows] + slate.passes[rows]
    start, stop = (slate.start[rows], slate.stop[rows]) if exact else _windows(slate, frame)
    window = exact or (1 if frame.longest == 1 else _rounded(int((stop - start).max()), frame.longest))
    window_start = np.minimum(start, frame.longest - window)  # moved left where it would run past L, so that no position comes twice
    inputs: dict[str, Any] = {
        "input_ids": np.ascontiguousarray(slate.tokens[rows, : frame.longest]),
        "position_ids": _positions(slate, frame),
        "past_lengths": slate.context[rows],
        "window_start": window_start,
        "allow_rows": _allow_rows(slate, frame, window_start, window),
        "quota": current(slate.quotas[rows], number) * frame.fills,
        "step": np.where(slate.next_token[rows], NEXT_TOKEN_STEP, number + 1) if frame.any["next_token"] else number + 1,
        **frame.inputs,
    }
    if frame.any_scaled:
        inputs["scale"] = current(slate.scales[rows], number)
    if frame.any["penalty"]:
        inputs["recent_ids"] = recent_ids(slate, frame.columns)
    if frame.any["conditions"]:
        inputs |= _feedback(slate, frame, number)
    if guided:
        inputs = _with_twins(slate, inputs, frame.longest)
    batch = StepBatch(
        **inputs,
        past=past,
        past_version=past_version,
        allow_table=frame.table,
        want_present=_wants_present(slate, frame),
        want_confidence=frame.any["wants_confidence"] or frame.any["sampler"],
        want_top=frame.any["wants_top"],
        want_logits=frame.any["wants_logits"],
    )
    return Asked(frame, batch, window_start, number)


def current(tables: NDArray[Any], number: Int64) -> NDArray[Any]:
    """Every row's entry [n] for pass `number` [n]; the last of `tables` [n, numbers] goes on for ever."""
    return tables[np.arange(len(number)), np.minimum(number, tables.shape[1] - 1)]


def _windows(slate: Slate, frame: Frame) -> tuple[Int64, Int64]:
    """First and last-but-one column [n] of what a pass is asked about: the head over the vocabulary is dear."""
    rows = slice(len(slate))
    start, stop = slate.start[rows], slate.stop[rows]
    if not frame.any["narrow"]:
        return start, stop
    masked = masks(slate, frame.columns)
    shrinks = masked.any(1) & slate.narrow[rows]
    first, behind = masked.argmax(1), frame.longest - masked[:, ::-1].argmax(1)
    return np.where(shrinks, first, start), np.where(shrinks, behind, stop)


def masks(slate: Slate, columns: Int64) -> Bools:
    """Which query columns [n, L] are masked and in their row's window."""
    rows = slice(len(slate))
    tokens = slate.tokens[rows, : len(columns)]
    return (tokens == slate.mask_token_id) & (columns >= slate.start[rows, None]) & (columns < slate.stop[rows, None])


def _rounded(window: int, longest: int) -> int:
    rounded = next((size for size in _WINDOWS if size >= window), -(-window // 16) * 16)
    return min(rounded, longest)


def _block_ids(slate: Slate, found: dict[str, bool], columns: Int64) -> Int64:
    """[n, L]; see `engines.visibility`. A causal row's blocks are single tokens, in a whole row all from `head` on are one block."""
    rows = slice(len(slate))
    ids = columns[None]
    if (slate.block_length[rows] > 1).any():
        ids = (slate.block_start[rows, None] + columns) // slate.block_length[rows, None]
    ids = np.minimum(ids, slate.head[rows, None])
    if not found["echo"]:
        return ids
    echo = slate.echo[rows, None]
    return np.where((echo > 0) & (columns >= echo), echo - columns - 1, ids)


def _positions(slate: Slate, frame: Frame) -> Int64:
    rows = slice(len(slate))
    if not frame.any["echo"]:
        return slate.position[rows, None] + frame.columns
    echo = slate.echo[rows, None]
    return slate.position[rows, None] + np.where((echo > 0) & (frame.columns >= echo), frame.columns - echo, frame.columns)


def _allow_rows(slate: Slate, frame: Frame, window_start: Int64, window: int) -> Int64:
    """[n, W]"""
    rows = slice(len(slate))
    if not frame.any["outside"]:
        return frame.allow if window == 1 else np.repeat(frame.allow, window, axis=1)
    columns = window_start[:, None] + np.arange(window)
    inside = (columns >= slate.start[rows, None]) & (columns < slate.stop[rows, None])
    return np.where(inside | ~slate.outside[rows, None], frame.allow, NO_WORD_ROW)


def _inputs(slate: Slate, found: dict[str, bool], columns: Int64, fills: Bools) -> dict[str, NDArray[Any]]:
    rows = slice(len(slate))
    inputs: dict[str, NDArray[Any]] = {
        "query_lengths": slate.length[rows],
        "block_ids": _block_ids(slate, found, columns),
        "threshold": np.where(fills, slate.threshold[rows], np.float32(THRESHOLD_OFF)),
        "temperature": slate.temperature[rows],
        "seed": slate.seed[rows],
    }
    return inputs | {theirs: getattr(slate, ours)[rows] for ours, theirs in _OPTIONAL.items() if found[ours]}


def _feedback(slate: Slate, frame: Frame, number: Int64) -> dict[str, NDArray[Any]]:
    """The logits of the pass before, times its scale, of rows that are fed them."""
    rows = slice(len(slate))
    conditioned = slate.conditions[rows] & (slate.passes[rows] > 0)
    if slate.previous is None or not conditioned.any():
        return {}
    previous = slate.wide("previous", frame.longest, slate.previous.shape[2])
    scale = current(slate.scales[rows], np.maximum(number - 1, 0))
    return {
        "self_conditioning": previous[rows, : frame.longest] * scale[:, None, None],  # [n, L, V]
        "self_conditioned": conditioned,
    }


def _wants_present(slate: Slate, frame: Frame) -> bool:
    """Whether this may be a pass whose keys and values some row keeps."""
    rows = slice(len(slate))
    if frame.any_verifies:
        return True
    if not frame.any["kept"]:
        return False
    last = (slate.until[rows] != Until.LIMIT) | (slate.passes[rows] + 1 >= slate.limit[rows]) | (slate.sampler[rows] > 0)
    return bool(((slate.kept[rows] > 0) & last).any())


def _with_twins(slate: Slate, inputs: dict[str, NDArray[Any]], longest: int) -> dict[str, NDArray[Any]]:
    n = len(slate)
    doubled = {name: np.concatenate([array, array]) for name, array in inputs.items()}
    doubled["input_ids"][n:][slate.given[:n, :longest]] = slate.mask_token_id
    doubled["guidance"] = np.concatenate([slate.guidance[:n], np.zeros(n, np.float32)])
    doubled["guidance_rows"] = np.tile(np.arange(n, 2 * n), 2)
    return doubled
