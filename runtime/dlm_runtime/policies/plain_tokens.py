"""The plain executor's own tokens one after another, and several at a time: `Extend` and `Speculate`."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from dlm_runtime.engines.base import Int64, StepResult
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Extend, Outcome, Rule, Sees, Span, Speculate
from dlm_runtime.policies.plain_step import Ask


class Row(Protocol):
    """What is needed of a `PlainRow`."""

    line: Line
    mask_token_id: int

    def step(self, ask: Ask) -> StepResult: ...

    def keep(self, result: StepResult, first_column: int, spans: tuple[Span, ...]) -> None: ...


def extend(row: Row, directive: Extend) -> Outcome:
    """One token after another until the line ends."""
    token_id, tokens, ended = directive.token_id, list[int](), False
    column = _end_column(row.line)
    passes = 0
    while not ended:
        ask = Ask([token_id], column, window_start=0, window_length=1, next_token=True, keeps=True, recent=tuple(tokens))
        result = row.step(ask)
        row.keep(result, column, ((column, column + 1),))
        token_id = int(result.sampled_ids[0, 0])
        ended = _takes(row.line, tokens, [token_id])
        column, passes = column + 1, passes + 1
    return Outcome(passes, result.sampled_ids[0].copy(), tokens=tokens)


def speculate(row: Row, directive: Speculate) -> Outcome:
    """Drafts and verifies until the line ends."""
    token_id, tokens, ended = directive.token_id, list[int](), False
    column, passes = _end_column(row.line), 0
    while not ended:
        room = row.line.room - len(tokens)
        length = directive.block_length if directive.as_published else min(directive.block_length, room)
        draft, drafting = _draft(row, token_id, column, length, directive.draft_threshold, tuple(tokens))
        if not directive.as_published:
            draft = _worth_verifying(row.line, draft)
        ask = Ask(draft.tolist(), column, window_start=0, window_length=len(draft), next_token=True, keeps=True, recent=tuple(tokens))
        result = row.step(ask)
        drawn = result.sampled_ids[0].copy()
        differ = np.flatnonzero(drawn[:-1] != draft[1:])
        accepted = int(differ[0]) if len(differ) else len(draft) - 1
        row.keep(result, column, ((column, column + accepted + 1),))
        ended = _takes(row.line, tokens, drawn[: accepted + 1].tolist())
        token_id, column = int(drawn[accepted]), column + accepted + 1
        passes += drafting + 1
    return Outcome(passes, drawn, tokens=tokens)


def _draft(row: Row, token_id: int, column: int, length: int, threshold: float, recent: tuple[int, ...]) -> tuple[Int64, int]:
    """The token and what is filled in behind it, and how many passes that took."""
    block = np.full(length, row.mask_token_id, np.int64)
    block[0] = token_id
    passes = 0
    while (block == row.mask_token_id).any():
        rule = Rule(quotas=(1,), threshold=threshold)
        ask = Ask(block.tolist(), column, 0, length, Sees.WHOLE, rule, passes, greedy=True, recent=recent)
        block = row.step(ask).canvas[0].copy()
        passes += 1
    return block, passes


def _worth_verifying(line: Line, draft: Int64) -> Int64:
    """The draft up to the token before its first end of line: running that one says whether the line ends, and no more is asked."""
    ends = np.flatnonzero(np.isin(draft[1:], list(line.eos_token_ids)))
    return draft[: ends[0] + 1] if len(ends) else draft


def _takes(line: Line, tokens: list[int], new: list[int]) -> bool:
    """Adds to `tokens` what the line would take of `new`; whether it would end there (`Line.extend`)."""
    for token_id in new:
        tokens.append(token_id)
        if token_id in line.eos_token_ids:
            return True
        if len(tokens) == line.room and not line.overshoots:
            break
    return len(tokens) >= line.room


def _end_column(line: Line) -> int:
    """Column of the line's last token."""
    return line.prompt_length + len(line.tokens) - 1
