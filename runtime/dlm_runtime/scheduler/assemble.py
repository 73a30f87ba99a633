"""From what rows ask for to the arrays of one step, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dlm_runtime.engines.base import StepBatch, StepResult
from dlm_runtime.engines.visibility import block_ids
from dlm_runtime.policies import Forward, Reply
from dlm_runtime.scheduler.row import Row
from dlm_runtime.scheduler.tables import ANY_WORD_ROW

_WINDOWS = (1, 2, 4, 8, 16)  # then multiples of 16: few different shapes, little waste


def assemble(
    rows: Sequence[Row], forwards: Sequence[Forward], past: NDArray[np.float32], table: NDArray[np.float32], pad_token_id: int
) -> StepBatch:
    """One batch of the rows' forwards, padded to the longest. `past` [layers, 2, B, Hkv, P, dh] holds their contexts in the same order."""
    longest = max(len(forward.token_ids) for forward in forwards)
    window = _window(max(forward.window_length for forward in forwards), longest)
    past_lengths = np.array([row.context_tokens for row in rows], np.int64)
    padded = [[*forward.token_ids, *[pad_token_id] * (longest - len(forward.token_ids))] for forward in forwards]
    return StepBatch(
        input_ids=np.array(padded, np.int64),
        position_ids=past_lengths[:, None] + np.arange(longest),
        past_lengths=past_lengths,
        query_lengths=np.array([len(forward.token_ids) for forward in forwards], np.int64),
        block_ids=block_ids([forward.causal for forward in forwards], longest),
        past=past,
        window_start=np.array([_start(forward, window, longest) for forward in forwards], np.int64),
        allow_rows=np.full((len(rows), window), ANY_WORD_ROW, np.int64),
        allow_table=table,
        quota=np.array([forward.quota for forward in forwards], np.int64),
        threshold=np.array([forward.threshold for forward in forwards], np.float32),
        temperature=np.array([forward.temperature for forward in forwards], np.float32),
        seed=np.array([row.request.seed for row in rows], np.int64),
        step=np.array([forward.step for forward in forwards], np.int64),
        want_present=any(forward.keeps for forward in forwards),
    )


def replies(forwards: Sequence[Forward], batch: StepBatch, result: StepResult) -> list[Reply]:
    """What each row is told: its own window, cut out of the batch's."""
    starts = batch.window_start.tolist()
    canvas, sampled = result.canvas.tolist(), result.sampled_ids.tolist()
    answers = []
    for place, forward in enumerate(forwards):
        first = forward.window_start - starts[place]
        window = slice(first, first + forward.window_length)
        answers.append(Reply(canvas[place][window], sampled[place][window]))
    return answers


def _window(length: int, longest: int) -> int:
    rounded = next((size for size in _WINDOWS if size >= length), -(-length // 16) * 16)
    return min(rounded, longest)


def _start(forward: Forward, window: int, longest: int) -> int:
    """Moved left where the common window would run past L, so that no position comes twice."""
    return min(forward.window_start, longest - window)
