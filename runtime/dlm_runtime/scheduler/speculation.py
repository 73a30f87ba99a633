"""Linear self-speculation of many rows at once, from draft to verification to the next draft. Autoregression is its case of one token."""

from __future__ import annotations

import numpy as np

from dlm_runtime.engines.base import THRESHOLD_OFF, Int64
from dlm_runtime.policies.sampler import Bools
from dlm_runtime.scheduler.slate import Phase, Slate


def start_drafts(slate: Slate, rows: Int64) -> None:
    """Lays masks behind the token that `tokens[:, 0]` already holds, up to what may still be written; `rows` [m] are places."""
    left = slate.room[rows] - slate.written_count[rows]
    length = np.where(slate.whole_drafts[rows], slate.draft_length[rows], np.minimum(slate.draft_length[rows], left))  # [m]
    slate.tokens[rows, 1:] = slate.mask_token_id
    single = length == 1
    if single.any():  # a token alone has nothing to be drafted
        _verify(slate, rows[single], length[single])
        rows, length = rows[~single], length[~single]
    if len(rows):
        slate.turn(rows, Phase.DRAFT)
        slate.length[rows] = slate.stop[rows] = length
        slate.threshold[rows], slate.temperature[rows] = slate.draft_threshold[rows], 0.0


def start_verification(slate: Slate, rows: Int64) -> None:
    """Drafts [m] go into a causal pass, up to the token before their first end of line: that one says whether the line ends."""
    length = slate.length[rows]
    ends = slate.ends(rows, slate.tokens[rows, 1:]) & (np.arange(1, slate.tokens.shape[1]) < length[:, None])
    cut = ends.any(1) & ~slate.whole_drafts[rows]
    if cut.any():
        length = np.where(cut, 1 + ends.argmax(1), length)
    _verify(slate, rows, length)


def _verify(slate: Slate, rows: Int64, length: Int64) -> None:
    slate.turn(rows, Phase.VERIFY)
    slate.length[rows] = slate.stop[rows] = length
    slate.threshold[rows], slate.temperature[rows] = THRESHOLD_OFF, slate.line_temperature[rows]


def take_verified(slate: Slate, rows: Int64, drawn: Int64) -> tuple[Int64, Bools]:
    """Accepts what was drafted of `rows` [m] as far as `drawn` [m, L] agrees, and what was drawn behind that.

    How many columns join the context, and which rows' lines would end. The others begin their next draft.
    """
    columns = np.arange(drawn.shape[1])
    agree = (slate.tokens[rows, 1 : len(columns)] == drawn[:, :-1]) & (columns[1:] < slate.length[rows, None])
    accepted = np.logical_and.accumulate(agree, axis=1).sum(1)
    count = slate.written_count[rows]
    new = np.where(slate.overshoots[rows], accepted + 1, np.minimum(accepted + 1, slate.room[rows] - count))
    ends = slate.ends(rows, drawn) & (columns < new[:, None])
    ended = ends.any(1)
    new = np.where(ended, 1 + ends.argmax(1), new)
    # What lies behind the new tokens is overwritten by the next ones, or never read.
    slate.widened("written", int(count.max()) + len(columns))[rows[:, None], count[:, None] + columns] = drawn
    slate.written_count[rows] = count + new
    ended |= count + new >= slate.room[rows]
    slate.tokens[rows, 0] = drawn[np.arange(len(rows)), accepted]
    slate.position[rows] += accepted + 1
    single = slate.draft_length[rows] == 1
    slate.passes[rows] = 0
    if not single.all():
        start_drafts(slate, rows[~ended & ~single])
    return accepted + 1, ended


def take_single(slate: Slate, places: Int64, drawn: Int64) -> Bools:
    """The same where all rows draw one token after another, which is autoregression: `drawn` [n, 1] is taken, and which lines end.

    `places` [n, 1] are all of them.
    """
    rows = slice(len(places))
    count = slate.written_count[rows]
    slate.written[places, count[:, None]] = drawn
    count += 1
    slate.tokens[rows, :1] = drawn
    slate.position[rows] += 1
    return (count >= slate.room[rows]) | slate.ends(rows, drawn)[:, 0]
