"""One recorded call as steps of the graph: who saw whom becomes block ids and pasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError
from .cases import Case, Row
from .compare import CaseResult, compare_logits
from .golden import LOGITS_FILE, GoldenCase
from .golden_arrays import COPY_AGAIN
from .session import Past, StepSession, presents

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


def replay(session: StepSession, case: GoldenCase) -> CaseResult:
    """Play a case on the graph, all of its rows in one batch where the mask lets them, and compare the logits that count."""
    pasts = [recorded_past(session, case, row) for row in range(len(case["input_ids"]))]
    found: list[Floats] = []
    expected: list[Floats] = []
    if "prefix_logits" in case:
        found += [past.logits for past in pasts]
        expected += list(case["prefix_logits"])
    found += play(session, case, [past.keys_and_values for past in pasts])
    expected += [logits[compare] for logits, compare in zip(case["logits"], case["compare"].astype(bool), strict=True)]
    return compare_logits(f"recorded {case.name}", np.concatenate(found), np.concatenate(expected), tolerance=case.tolerance)


@dataclass(frozen=True)
class RecordedPast:
    """Keys and values of the cached columns, and the logits of the pass that made them."""

    keys_and_values: Past
    logits: Floats


def recorded_past(session: StepSession, case: GoldenCase, row: int) -> RecordedPast:
    """Fill the cache as the reference did: blocks over `prefix_ids`, or everything seeing everything over `canvas0`."""
    nothing = RecordedPast((), np.empty((0, session.manifest.vocab_size), np.float32))
    if "canvas0" in case:
        canvas = case["canvas0"][row]
        whole = run(session, canvas, np.arange(len(canvas)), np.zeros(len(canvas), np.int64), ())
        kept = np.ones(len(canvas), bool)
        kept[int(case["s"]) : int(case["e"]) if "e" in case else None] = False
        return RecordedPast(cut(whole.keys_and_values, kept), nothing.logits)
    if "prefix_ids" not in case:
        return nothing
    ids = case["prefix_ids"][row]
    index = np.arange(len(ids))
    order = index if session.manifest.context_mask == "causal" else index // (case.block_length or case["input_ids"].shape[1])
    prefix = run(session, ids, index, order, ())
    if "block0" not in case:
        return prefix
    start, block0 = int(case["replace_position"]), case["block0"][row]
    first = run(session, block0, len(ids) + np.arange(len(block0)), np.zeros(len(block0), np.int64), prefix.keys_and_values)
    kept = cut(first.keys_and_values, np.arange(len(block0)) < start)
    return RecordedPast(join(prefix.keys_and_values, kept), nothing.logits)


def play(session: StepSession, case: GoldenCase, pasts: Sequence[Past]) -> list[Floats]:
    """The logits [n, V] that count, row by row."""
    rows = [played_row(case, row, past) for row, past in enumerate(pasts)]
    if any(row is None for row in rows):
        return [play_in_groups(session, case, row, past) for row, past in enumerate(pasts)]
    whole = [row for row in rows if row is not None]
    answer = session.answer(Case("recorded", tuple(row for row, _ in whole)), pasts, np.random.default_rng(0))
    return [answer.outputs["logits"][index, : len(row.query_ids)][counts] for index, (row, counts) in enumerate(whole)]


def played_row(case: GoldenCase, row: int, past: Past) -> tuple[Row, Bools] | None:
    """A row without its padding and which of its tokens count, or None where block ids cannot say what its mask says."""
    ids, compare = case["input_ids"][row], case["compare"][row].astype(bool)
    visible = case.visible[row, :, -len(ids) :]
    used = compare | visible[compare].any(0)
    order = block_order(visible[np.ix_(used, used)])
    return None if order is None else (step_row(ids[used], case["position_ids"][row][used], order, past), compare[used])


def play_in_groups(session: StepSession, case: GoldenCase, row: int, past: Past) -> Floats:
    """Some see what others do not: those whom others see run first, then each group of equals against what it saw of them."""
    ids, positions, compare = case["input_ids"][row], case["position_ids"][row], case["compare"][row].astype(bool)
    visible = case.visible[row, :, -len(ids) :]
    used, groups = compare | visible[compare].any(0), np.array(equal_rows(visible))
    shared = used & np.array([visible[groups != group, index].any() for index, group in enumerate(groups)])
    order = block_order(visible[np.ix_(shared, shared)])
    if order is None or past:
        raise CheckpointError(LOGITS_FILE, "has an attention mask that no sequence of steps computes", COPY_AGAIN, item=case.name)
    context = run(session, ids[shared], positions[shared], order, ())
    logits = np.zeros((len(ids), session.manifest.vocab_size), np.float32)
    logits[shared] = context.logits
    for group in sorted({groups[index] for index in np.flatnonzero(compare & ~shared)}):
        own = groups == group
        seen = visible[np.argmax(own)][shared]
        together = np.zeros(own.sum(), np.int64)
        logits[own] = run(session, ids[own], positions[own], together, cut(context.keys_and_values, seen)).logits
    return logits[compare]


def step_row(ids: Ints, positions: Ints, order: Ints, past: Past) -> Row:
    """A row whose past is known by its keys and values alone."""
    past_size = past[0][0].shape[1] if past else 0
    return Row(np.zeros(past_size, np.int64), ids, order, query_positions=positions)


def run(session: StepSession, ids: Ints, positions: Ints, order: Ints, past: Past) -> RecordedPast:
    """One row, one step."""
    case = Case("recorded", (step_row(ids, positions, order, past),))
    answer = session.answer(case, [past], np.random.default_rng(0))
    return RecordedPast(presents(answer, session.manifest.layers, 0), answer.outputs["logits"][0])


def block_order(visible: Bools) -> Ints | None:
    """Block ids [n] with `visible[i, j] == (ids[j] <= ids[i])`, or None where a mask [n, n] has none."""
    order = visible.sum(1)
    return order if (visible == (order[None] <= order[:, None])).all() else None


def equal_rows(visible: Bools) -> list[int]:
    """For every row of a mask the index of the first row that is the same."""
    first: dict[bytes, int] = {}
    return [first.setdefault(row.tobytes(), index) for index, row in enumerate(visible)]


def cut(past: Past, kept: Bools) -> Past:
    """Those columns of keys and values."""
    return [(key[:, kept], value[:, kept]) for key, value in past]


def join(first: Past, second: Past) -> Past:
    """Columns of two pasts side by side."""
    pairs = zip(first, second, strict=True) if first else ()
    return [(np.concatenate((k, k2), 1), np.concatenate((v, v2), 1)) for (k, v), (k2, v2) in pairs] or list(second)
