"""From the answer of a forward pass back to the slate: what was filled in, what joins the context, and whose directive is over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlm_runtime.engines.base import Int64, StepResult
from dlm_runtime.policies.sampler import Bools
from dlm_runtime.scheduler.ask import Asked, masks
from dlm_runtime.scheduler.deciders import decide
from dlm_runtime.scheduler.slate import LIMIT, SETTLED, Phase, Slate
from dlm_runtime.scheduler.speculation import start_verification, take_single, take_verified


@dataclass(frozen=True, slots=True)
class Told:
    """How many of its `keeps` columns every row adds to its context (None: nobody adds any), and which directives are over."""

    kept: Int64 | None  # [n]
    over: Bools  # [n]


def tell(slate: Slate, asked: Asked, result: StepResult) -> Told:
    """Takes in the answer. Raises what a sampler raises."""
    frame, rows = asked.frame, asked.frame.rows
    if frame.all_single:
        slate.spent[rows] += 1
        return Told(np.ones(len(frame.places), np.int64), take_single(slate, frame.places, result.sampled_ids))
    _lay(slate, asked, result)
    done = decide(slate, asked, result) if frame.any["sampler"] else None
    slate.passes[rows] += 1
    slate.spent[rows] += 1
    if frame.any["takes_last"]:
        _take_last(slate, asked)
    ends = _first_end(slate, asked) if frame.any["cuts"] or frame.any_settles else None
    if frame.any["cuts"] and ends is not None:
        _cut(slate, asked, ends)
    over = _over(slate, asked, ends)
    if done is not None:
        over |= done
    if frame.any["remembers"]:
        _remember(slate, asked, result)
    kept = slate.kept[rows] * over if frame.any["kept"] else None
    if frame.any["phase"]:
        kept, over = _move_on(slate, asked, result, over, kept)
    return Told(kept, over)


def _lay(slate: Slate, asked: Asked, result: StepResult) -> None:
    """Writes what was filled in, in every row's own window. Where nothing is, the answer repeats what it was given."""
    frame = asked.frame
    sampled, canvas = result.sampled_ids[frame.rows], result.canvas[frame.rows]
    columns = asked.window_start[:, None] + np.arange(sampled.shape[1])  # [n, W]
    slate.guesses[frame.places, columns] = sampled
    if frame.any["outside"]:
        canvas = np.where(frame.inside[frame.places, columns], canvas, slate.tokens[frame.places, columns])
    slate.tokens[frame.places, columns] = canvas


def _take_last(slate: Slate, asked: Asked) -> None:
    """Where a pass has left a single mask, that one is taken too."""
    n, longest = len(slate), asked.frame.longest
    masked = masks(slate, asked.frame)
    last = masked & (slate.takes_last[:n] & (masked.sum(1) == 1))[:, None]
    tokens = slate.tokens[:n, :longest]
    tokens[last] = slate.guesses[:n, :longest][last]


def _first_end(slate: Slate, asked: Asked) -> Int64:
    """Column [n] of the window's first end-of-line token; L where there is none."""
    frame = asked.frame
    return _first(slate.ends(frame.rows, slate.tokens[frame.rows, : frame.longest]) & frame.inside)


def _cut(slate: Slate, asked: Asked, ends: Int64) -> None:
    n = len(slate)
    cut = slate.cuts[:n] & (ends + 1 < slate.length[:n])
    if cut.any():
        slate.length[:n][cut] = ends[cut] + 1
        slate.stop[:n] = np.minimum(slate.stop[:n], slate.length[:n])
        slate.changed = True


def _over(slate: Slate, asked: Asked, ends: Int64 | None) -> Bools:
    """Which rows have had enough passes, a sampler's own opinion aside."""
    rows, until = asked.frame.rows, slate.until[asked.frame.rows]
    over = slate.passes[rows] >= slate.limit[rows]
    if not asked.frame.any["until"]:
        return over
    mask, stop = _first(masks(slate, asked.frame)), slate.stop[rows]
    clean = mask >= stop  # what was cut off counts no more
    if ends is not None:
        clean |= (until == SETTLED) & (ends < mask)
    return over | ((until != LIMIT) & clean)


def _first(marks: Bools) -> Int64:
    """Column [n] of every row's first mark in [n, L]; L where there is none."""
    return np.where(marks.any(1), marks.argmax(1), marks.shape[1])


def _remember(slate: Slate, asked: Asked, result: StepResult) -> None:
    """Keeps raw logits of rows that will want them in their next pass, from their window's start on."""
    remembers = np.flatnonzero(slate.remembers[: len(slate)])
    if result.logits is None:
        raise ValueError("the engine left out the logits it was asked for")
    window = result.logits.shape[1]
    previous = slate.wide("previous", window, result.logits.shape[2])
    offset = slate.start[remembers] - asked.window_start[remembers]  # more than 0 where the batch's window begins further left
    places = np.minimum(offset[:, None] + np.arange(window), window - 1)
    previous[remembers, :window] = result.logits[remembers[:, None], places]


def _move_on(slate: Slate, asked: Asked, result: StepResult, over: Bools, kept: Int64 | None) -> tuple[Int64 | None, Bools]:
    """Rows that speculate go from draft to verification and on; they are over when their line would end."""
    verified, phase = asked.frame.verifying, slate.phase[asked.frame.rows]
    drafted = (over & (phase == Phase.DRAFT)).nonzero()[0]
    if len(drafted):
        over[drafted] = False
        start_verification(slate, drafted)
    if len(verified):
        kept = np.zeros(len(over), np.int64) if kept is None else kept
        kept[verified], over[verified] = take_verified(slate, verified, result.sampled_ids[verified])
    return kept, over
