"""From a slate to the arrays of one forward pass of all its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlm_runtime.engines.base import Float32, Int64, StepBatch
from dlm_runtime.engines.key_values import KeyValues
from dlm_runtime.policies.passes import NEXT_TOKEN_STEP
from dlm_runtime.policies.sampler import Bools
from dlm_runtime.scheduler.recent import recent_ids
from dlm_runtime.scheduler.slate import LIMIT, SETTLED, Phase, Slate
from dlm_runtime.scheduler.tables import NO_WORD_ROW, AllowTable

_OPTIONAL = {  # numbers of the slate, and the inputs they are
    **{name: name for name in ("shift", "factor", "measure", "rank_temperature", "encode")},
    **{"top_k": "sample_top_k", "top_p": "sample_top_p", "penalty": "repetition_penalty"},
}
_WINDOWS = (1, 2, 4, 8, 16)  # then multiples of 16: few different shapes, little waste


@dataclass(frozen=True, slots=True)
class Frame:
    """What stays the same from pass to pass while no row begins, ends or turns to something else."""

    rows: slice  # the first n
    longest: int  # L
    columns: Int64  # [L]
    places: Int64  # [n, 1]
    inside: Bools  # [n, L], which query columns are in their row's window
    inputs: dict[str, NDArray[Any]]  # of the batch; those that are neutral for every row are left out
    table: Float32  # [G, V]
    allow: Int64  # [n, 1], every row's row of the table
    fills: Bools  # [n], whether the step itself may fill something in
    exact: int  # width of everybody's window, which must not be any wider; 0: any
    any: dict[str, bool]  # whether a number of the slate is anything but neutral in any row
    any_settles: bool
    verifying: Int64  # which rows do, of those that speculate
    all_single: bool  # every row draws one token after another
    all_next_token: bool

    @staticmethod
    def of(slate: Slate, table: AllowTable, exact: int) -> Frame:
        """The frame of the rows that are there."""
        n = len(slate)
        rows = slice(n)
        found = slate.any_of()
        longest = int((np.maximum(slate.length[rows], slate.start[rows] + exact) if exact else slate.length[rows]).max())
        columns = np.arange(longest)
        fills = ~slate.next_token[rows]
        if found["sampler"]:
            fills &= slate.sampler[rows] == 0
        verifying = (slate.phase[rows] == Phase.VERIFY).nonzero()[0]
        frame = Frame(
            rows=rows,
            longest=longest,
            columns=columns,
            places=np.arange(n)[:, None],
            inside=(columns >= slate.start[rows, None]) & (columns < slate.stop[rows, None]),
            inputs=_inputs(slate, rows, found, columns),
            table=table.whole if found["outside"] or found["allow"] else table.usual,
            allow=slate.allow[rows, None],
            fills=fills,
            exact=exact,
            any=found,
            any_settles=found["until"] and bool((slate.until[rows] == SETTLED).any()),
            verifying=verifying,
            all_single=longest == 1 and len(verifying) == n,
            all_next_token=found["next_token"] and bool(slate.next_token[rows].all()),
        )
        if not found["narrow"] or exact:
            frame.inputs.update(_window(slate, frame))
        if frame.all_next_token:
            frame.inputs.update(quota=np.zeros(n, np.int64), step=np.full(n, NEXT_TOKEN_STEP, np.int64))
        return frame


@dataclass(frozen=True, slots=True)
class Asked:
    """A pass that is about to be run: the batch, and where every row's window lies in it."""

    frame: Frame
    batch: StepBatch
    window_start: Int64  # [n], query column of the batch's first window position
    number: Int64  # [n], of this pass, for draws and quotas


def ask(slate: Slate, frame: Frame, past: KeyValues, *, guided: bool, past_version: int | None = None) -> Asked:
    """The next pass of every row. Where `guided`, each row is followed by a twin, in which the prompt is masked, n rows further on."""
    rows = frame.rows
    number = slate.first_step[rows] + slate.passes[rows]
    inputs: dict[str, Any] = {
        "input_ids": np.ascontiguousarray(slate.tokens[rows, : frame.longest]),
        "position_ids": _positions(slate, frame),
        "past_lengths": slate.context[rows],
        **frame.inputs,
    }
    if "window_start" not in inputs:
        inputs |= _window(slate, frame)
    if not frame.all_next_token:
        inputs["quota"] = current(slate.quotas[rows], number) * frame.fills
        inputs["step"] = np.where(slate.next_token[rows], NEXT_TOKEN_STEP, number + 1) if frame.any["next_token"] else number + 1
    if frame.any["scaled"]:
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
    return Asked(frame, batch, batch.window_start[rows], number)


def current(tables: NDArray[Any], number: Int64) -> NDArray[Any]:
    """Every row's entry [n] for pass `number` [n]; the last of `tables` [n, numbers] goes on for ever."""
    last = tables.shape[1] - 1
    return tables[np.arange(len(number)), np.minimum(number, last)] if last else tables[:, 0]


def masks(slate: Slate, frame: Frame) -> Bools:
    """Which query columns [n, L] are masked and in their row's window."""
    return (slate.tokens[frame.rows, : frame.longest] == slate.mask_token_id) & frame.inside


def _window(slate: Slate, frame: Frame) -> dict[str, Int64]:
    """Where the head runs, and under which rows of the table."""
    start, stop = _spans(slate, frame)
    width = frame.exact or (1 if frame.longest == 1 else _rounded(int((stop - start).max()), frame.longest))
    first = np.minimum(start, frame.longest - width)  # moved left where it would run past L, so that no position comes twice
    return {"window_start": first, "allow_rows": _allow_rows(slate, frame, first, width)}


def _spans(slate: Slate, frame: Frame) -> tuple[Int64, Int64]:
    """First column [n] of what a pass is asked about, and the one behind its last: the head over the vocabulary is dear."""
    rows = frame.rows
    start, stop = slate.start[rows], slate.stop[rows]
    if frame.exact or not frame.any["narrow"]:
        return start, stop
    masked = masks(slate, frame)
    shrinks = masked.any(1) & slate.narrow[rows]
    first, behind = masked.argmax(1), frame.longest - masked[:, ::-1].argmax(1)
    return np.where(shrinks, first, start), np.where(shrinks, behind, stop)


def _rounded(window: int, longest: int) -> int:
    rounded = next((size for size in _WINDOWS if size >= window), -(-window // 16) * 16)
    return min(rounded, longest)


def _block_ids(slate: Slate, rows: slice, found: dict[str, bool], columns: Int64) -> Int64:
    """[n, L]; see `engines.visibility`. A causal row's blocks are single tokens, in a whole row all from `head` on are one block."""
    ids = columns[None]
    if found["block_length"]:
        ids = (slate.block_start[rows, None] + columns) // np.maximum(slate.block_length[rows, None], 1)
    ids = np.minimum(ids, slate.head[rows, None])
    if not found["echo"]:
        return ids
    echo = slate.echo[rows, None]
    return np.where((echo > 0) & (columns >= echo), echo - columns - 1, ids)


def _positions(slate: Slate, frame: Frame) -> Int64:
    rows = frame.rows
    if not frame.any["echo"]:
        return slate.position[rows, None] + frame.columns
    echo = slate.echo[rows, None]
    return slate.position[rows, None] + np.where((echo > 0) & (frame.columns >= echo), frame.columns - echo, frame.columns)


def _allow_rows(slate: Slate, frame: Frame, window_start: Int64, window: int) -> Int64:
    """[n, W]"""
    rows = frame.rows
    if not frame.any["outside"]:
        return frame.allow if window == 1 else np.repeat(frame.allow, window, axis=1)
    columns = window_start[:, None] + np.arange(window)
    inside = (columns >= slate.start[rows, None]) & (columns < slate.stop[rows, None])
    return np.where(inside | ~slate.outside[rows, None], frame.allow, NO_WORD_ROW)


def _inputs(slate: Slate, rows: slice, found: dict[str, bool], columns: Int64) -> dict[str, NDArray[Any]]:
    inputs: dict[str, NDArray[Any]] = {
        "query_lengths": slate.length[rows],
        "block_ids": _block_ids(slate, rows, found, columns),
        "threshold": slate.threshold[rows],
        "temperature": slate.temperature[rows],
        "seed": slate.seed[rows],
    }
    return inputs | {theirs: getattr(slate, ours)[rows] for ours, theirs in _OPTIONAL.items() if found[ours]}


def _feedback(slate: Slate, frame: Frame, number: Int64) -> dict[str, NDArray[Any]]:
    """The logits of the pass before, times its scale, of rows that are fed them."""
    rows = frame.rows
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
    rows = frame.rows
    if len(frame.verifying):
        return True
    if not frame.any["kept"]:
        return False
    last = (slate.until[rows] != LIMIT) | (slate.passes[rows] + 1 >= slate.limit[rows]) | (slate.sampler[rows] > 0)
    return bool(((slate.kept[rows] > 0) & last).any())


def _with_twins(slate: Slate, inputs: dict[str, NDArray[Any]], longest: int) -> dict[str, NDArray[Any]]:
    n = len(slate)
    doubled = {name: np.concatenate([array, array]) for name, array in inputs.items()}
    doubled["input_ids"][n:][slate.given[:n, :longest]] = slate.mask_token_id
    doubled["guidance"] = np.concatenate([slate.guidance[:n], np.zeros(n, np.float32)])
    doubled["guidance_rows"] = np.tile(np.arange(n, 2 * n), 2)
    return doubled
