"""Which tokens a repetition penalty punishes: the latest of those that the line has written so far."""

from __future__ import annotations

import numpy as np

from dlm_runtime.engines.base import Int64
from dlm_runtime.policies.sampling import RECENT_TOKENS
from dlm_runtime.scheduler.slate import Slate


def recent_ids(slate: Slate, columns: Int64) -> Int64:
    """[n, RECENT_TOKENS], -1 for none. The line as it stands, column by column: before the query, within, newly written, behind.

    `columns` [L] are those of the query.
    """
    rows = slice(len(slate))
    query = slate.tokens[rows, : len(columns)]
    own = (columns >= slate.settled[rows, None]) & (columns < slate.length[rows, None]) & (query != slate.mask_token_id)
    echo = slate.echo[rows, None]
    own &= (echo == 0) | (columns < echo)
    written = slate.written[rows, : max(1, int(slate.written_count[rows].max()))]
    new = np.arange(written.shape[1]) < slate.written_count[rows, None]
    tokens = np.concatenate(
        [slate.recent_before[rows], np.where(own, query, -1), np.where(new, written, -1), slate.recent_after[rows]], axis=1
    )
    last = np.argsort(tokens >= 0, axis=1, kind="stable")[:, -RECENT_TOKENS:]  # those that are none come first
    return np.take_along_axis(tokens, last, axis=1)
