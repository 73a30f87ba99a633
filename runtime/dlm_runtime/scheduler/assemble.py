"""From pieces of prompts to the arrays of one step. Each piece is asked for one thing only, the token drawn after its last column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlm_runtime.engines.base import THRESHOLD_OFF, Int64, StepBatch
from dlm_runtime.engines.key_values import KeyValues
from dlm_runtime.policies.passes import NEXT_TOKEN_STEP, Sees
from dlm_runtime.scheduler.prefill import Chunk
from dlm_runtime.scheduler.tables import AllowTable


def assemble(chunks: Sequence[Chunk], past: KeyValues, table: AllowTable, pad_token_id: int) -> StepBatch:
    """One batch of the pieces, padded to the longest; `past` holds their contexts in the same order."""
    rows, longest = len(chunks), max(len(chunk) for chunk in chunks)
    sampling = [chunk.line.sampling for chunk in chunks]
    starts, stops, first, seed, allowed = np.array(
        [
            [chunk.start for chunk in chunks],
            [chunk.stop for chunk in chunks],
            [chunk.line.first_position for chunk in chunks],
            [one.seed for one in sampling],
            [table.row_of(one.banned_token_ids) for one in sampling],
        ],
        np.int64,
    )
    lengths, columns = stops - starts, np.arange(longest)
    input_ids, block_ids = np.full((2, rows, longest), pad_token_id, np.int64)
    for place, chunk in enumerate(chunks):
        input_ids[place, : len(chunk)] = chunk.row.prompt[chunk.start : chunk.stop]
        block_ids[place] = _block_ids(chunk, columns)
    batch = StepBatch(
        input_ids=input_ids,
        position_ids=(first + starts)[:, None] + columns,
        past_lengths=starts,
        query_lengths=lengths,
        block_ids=block_ids,
        past=past,
        window_start=lengths - 1,
        allow_rows=allowed[:, None],
        allow_table=table.whole if allowed.any() else table.usual,
        quota=np.zeros(rows, np.int64),
        threshold=np.full(rows, THRESHOLD_OFF, np.float32),
        temperature=np.array([one.temperature for one in sampling], np.float32),
        seed=seed,
        step=np.full(rows, NEXT_TOKEN_STEP, np.int64),
        want_present=True,
        encode=np.ones(rows, np.bool_),
    )
    if any(one.top_k for one in sampling):
        batch.sample_top_k = np.array([one.sample_top_k for one in sampling], np.int64)
    if any(one.top_p != 1.0 for one in sampling):
        batch.sample_top_p = np.array([one.top_p for one in sampling], np.float32)
    return batch


def _block_ids(chunk: Chunk, columns: Int64) -> Int64:
    """Who sees whom within the piece, [L]; `columns` are 0 to L - 1."""
    match chunk.prefill.sees:
        case Sees.CAUSAL:
            return columns
        case Sees.WHOLE:
            return np.zeros_like(columns)
        case Sees.BLOCKS:
            blocks = chunk.prefill.block_length
            return ((chunk.start - chunk.line.block_origin) % blocks + columns) // blocks
        case Sees.ECHO:
            raise ValueError(f"{chunk.prefill.sees=} makes no sense for a prompt")
