"""Where a directive ends: the row's canvas and what its policy is told; and what a caller is shown until then."""

from __future__ import annotations

import numpy as np

from dlm_runtime.engines.base import StepResult
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Outcome, Passes, Sees
from dlm_runtime.scheduler.ask import Asked
from dlm_runtime.scheduler.slate import Phase, Slate


def close_directive(slate: Slate, place: int, line: Line, directive: object, asked: Asked, result: StepResult) -> Outcome:
    """Writes the row's canvas and makes the outcome of its directive, whose last pass `result` answers."""
    passes = int(slate.spent[place])
    if not isinstance(directive, Passes):
        tokens = slate.written[place, : slate.written_count[place]].tolist()
        return Outcome(passes, np.array(tokens[-1:], np.int64), tokens=tokens)
    start = int(slate.start[place])
    stop = start + directive.window[1] - directive.window[0]
    if not directive.next_token and directive.sees != Sees.ECHO:
        line.canvas[slice(*directive.window)] = slate.tokens[place, start:stop]
    outcome = Outcome(passes, slate.guesses[place, start:stop].copy())
    window = slice(start - int(asked.window_start[place]), stop - int(asked.window_start[place]))
    if directive.wants_confidence and result.confidence is not None:
        outcome.confidence = result.confidence[place, window].copy()
    if directive.wants_logits and result.logits is not None:
        outcome.logits = result.logits[place, window].copy()
    return outcome


def settle(slate: Slate, place: int, line: Line) -> None:
    """Hands a line that will not be finished what it has of a directive that writes one token after another."""
    if slate.phase[place] != Phase.PASSES and slate.written_count[place]:
        line.extend(slate.written[place, : slate.written_count[place]].tolist())


def show(slate: Slate, place: int, line: Line) -> None:
    """Lays the row's draft behind its line."""
    if slate.phase[place] != Phase.PASSES:
        new = slate.written[place, : slate.written_count[place]].tolist()
        draft = slate.tokens[place, 1 : slate.length[place]].tolist() if slate.phase[place] == Phase.VERIFY else []
        line.show(new + draft, [True] * len(new) + [False] * len(draft))
        return
    first, stop = int(slate.settled[place]), int(slate.stop[place])
    tokens, guesses = slate.tokens[place, first:stop], slate.guesses[place, first:stop]
    final = tokens != slate.mask_token_id
    tail = np.where(final, tokens, guesses)
    known = int(np.argmax(tail < 0)) if (tail < 0).any() else len(tail)  # nothing has been drawn for what stands behind
    if slate.sampler[place] and getattr(slate.kinds[slate.sampler[place] - 1][0], "edits", False):
        final = final & (np.arange(first, stop) < slate.start[place])
    before = _before(slate, place, line)
    line.show(before + tail[:known].tolist(), [True] * len(before) + final[:known].tolist())


def _before(slate: Slate, place: int, line: Line) -> list[int]:
    """Tokens of the canvas between what is settled and the query."""
    settled = line.prompt_length + len(line.tokens)
    first = int(slate.position[place]) - line.first_position
    return line.canvas[settled:first].tolist() if settled < first else []
