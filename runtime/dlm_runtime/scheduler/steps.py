"""Running the rows that have been admitted: prompts first, then everything that is being written."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

import numpy as np

from dlm_runtime.cache import PrefixCache
from dlm_runtime.engines.base import Engine, StepBatch, StepResult
from dlm_runtime.engines.key_values import KeyValues
from dlm_runtime.errors import DlmError, EngineError
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Directive, Outcome, Passes, Prefill
from dlm_runtime.scheduler.arena import ContextArena
from dlm_runtime.scheduler.arenas import Arenas, Key
from dlm_runtime.scheduler.ask import Asked, Frame, ask
from dlm_runtime.scheduler.assemble import assemble
from dlm_runtime.scheduler.closing import close_directive, settle, show
from dlm_runtime.scheduler.counters import Counters
from dlm_runtime.scheduler.opening import open_passes, open_speculation, seat
from dlm_runtime.scheduler.prefill import Chunk, PromptRunner
from dlm_runtime.scheduler.row import Row
from dlm_runtime.scheduler.tables import AllowTable
from dlm_runtime.scheduler.tell import Told, tell

_log = logging.getLogger(__name__)


class Steps:
    """The admitted rows. What runs something returns the rows that ended by it, their last event not yet delivered."""

    def __init__(self, engine: Engine, cache: PrefixCache, counters: Counters, prefill_step_tokens: int) -> None:
        self._engine = engine
        self._counters = counters
        self._table = AllowTable(engine.manifest)
        self._prompts = PromptRunner(engine.manifest, cache, prefill_step_tokens)
        self._arenas = Arenas(engine.manifest)

    def __len__(self) -> int:
        return len(self._prompts.rows) + len(self._arenas)

    def admit(self, rows: Sequence[Row]) -> list[Row]:
        """Takes in rows, whose work begins at the next `run`, and returns those that could not even begin."""
        for row in rows:
            try:
                row.begin(self._engine.manifest)
                if row.asked is None:
                    self._counters.line(row.finish_whole())
                else:
                    self._place(row, None)
            except Exception as error:  # a policy that raises loses its own line only
                self._policy_failed(row, error)
        return [row for row in rows if row.ended]

    def run(self) -> Iterator[list[Row]]:
        """A bounded number of prompt tokens, then one step of every row whose prompt is done; yields after each engine call.

        Between two of them rows may be taken away.
        """
        for chunks in self._prompts.plan():
            if here := [chunk for chunk in chunks if not chunk.row.ended]:
                yield self._prompt_step(here)
        for key, arena in self._arenas:
            if arena.rows:
                yield self._pass(key, arena)

    def take_cancelled(self) -> list[Row]:
        """Removes and returns the rows whose tickets were cancelled."""
        gone = [row for row in [*self._prompts.rows, *self._arenas.rows] if row.cancelled]
        for row in gone:
            self._remove(row)
        self._arenas.release()
        return gone

    def take_all(self) -> list[Row]:
        """Removes and returns every row."""
        rows = list(dict.fromkeys([*self._prompts.rows, *self._arenas.rows]))  # after a fault a row may stand in both
        self._prompts.rows.clear()
        self._arenas.clear()
        return rows

    def _prompt_step(self, chunks: list[Chunk]) -> list[Row]:
        rows = [chunk.row for chunk in chunks]
        try:
            batch = assemble(chunks, self._prompts.past(chunks), self._table, self._engine.manifest.pad_token_id)
            result = self._step(batch, len(rows))
            if result.present is not None:
                self._prompts.keep(chunks, result.present)
        except Exception as error:  # whatever an engine raises concerns the rows of this step only
            return self._step_failed(rows, error)
        drawn = result.sampled_ids.copy()
        for row in rows:
            row.forwards += 1
        return [chunk.row for chunk, token in zip(chunks, drawn, strict=True) if chunk.last and not self._prompt_done(chunk, token)]

    def _prompt_done(self, chunk: Chunk, drawn: np.ndarray) -> bool:
        """Moves on a row whose prompt has been run; False when it has ended by that."""
        row = chunk.row
        self._prompts.rows.remove(row)
        row.prefilled()
        if not self._answer(row, Outcome(row.forwards, drawn)):
            return False
        return self._placed(row, None if row.context is None else row.context.part(tokens=slice(row.context_tokens)))

    def _pass(self, key: Key, arena: ContextArena) -> list[Row]:
        """One forward pass of an arena's rows."""
        slate, rows = arena.slate, list(arena.rows)
        try:
            if slate.changed or slate.frame is None:
                slate.frame, slate.changed = Frame.of(slate, self._table, key.exact), False
            past = arena.past if not key.guided else KeyValues.zeros(self._engine.manifest, 2 * len(rows), 0)
            asked = ask(slate, slate.frame, past, guided=key.guided, past_version=None if key.guided else arena.past_version)
            result = self._step(asked.batch, len(rows))
            told = tell(slate, asked, result)
            if told.kept is not None and result.present is not None:
                arena.append(result.present, told.kept)
        except Exception as error:  # whatever an engine or a sampler raises concerns the rows of this step only
            return self._step_failed(rows, error)
        if asked.frame.any["shows"]:
            self._show(arena, told)
        ended = self._close(key, arena, asked, result, told) if told.over.any() else []
        if told.kept is not None:
            self._arenas.regroup(key, arena)
        if not arena.rows:
            self._arenas.release()
        return ended

    def _step(self, batch: StepBatch, rows: int) -> StepResult:
        started_s = time.perf_counter()
        result = self._engine.step(batch)
        self._counters.step(rows, time.perf_counter() - started_s)
        if batch.want_present and result.present is None:
            raise EngineError("the engine left out the keys and values it was asked for")
        return result

    def _show(self, arena: ContextArena, told: Told) -> None:
        """Drafts of the rows that go on; those of the others come with their next directive."""
        slate = arena.slate
        shown = slate.shows[: len(slate)] & ~told.over
        if shown.any():
            for place in np.flatnonzero(shown).tolist():
                row = slate.rows[place]
                show(slate, place, _line_of(row))
                row.emit_draft()

    def _close(self, key: Key, arena: ContextArena, asked: Asked, result: StepResult, told: Told) -> list[Row]:
        """Ends the directives that are over, and begins the next ones. Last place first, so that no place changes before its turn."""
        slate = arena.slate
        places = np.flatnonzero(told.over)[::-1].tolist()
        outcomes = [close_directive(slate, place, _line_of(slate.rows[place]), slate.rows[place].asked, asked, result) for place in places]
        ended: list[Row] = []
        for place, outcome in zip(places, outcomes, strict=True):
            row = slate.rows[place]
            row.forwards += outcome.passes
            slate.spent[place] = 0
            if not self._answer(row, outcome) or not self._goes_on(row, key, arena, place):
                arena.leave(place)
                ended.append(row)
        return ended

    def _goes_on(self, row: Row, key: Key, arena: ContextArena, place: int) -> bool:
        """Begins a row's next directive, where it stands or elsewhere; False when the row has ended by it."""
        directive, line = _asked(row), _line_of(row)
        try:
            if isinstance(directive, Passes) and directive.crop is not None:
                arena.slate.context[place] = min(directive.crop, int(arena.slate.context[place]))
            stays = not isinstance(directive, Prefill) and self._arenas.key_for(line, directive, int(arena.slate.context[place])) == key
            if not stays:
                self._place(row, arena.context(place))
                arena.leave(place)
            else:
                self._open(row, arena, place)
        except Exception as error:  # a directive that makes no sense loses its own line only
            self._policy_failed(row, error)
            return False
        return True

    def _place(self, row: Row, context: KeyValues | None) -> None:
        """Finds the place for what a row asks for next. Raises what does not fit the line."""
        directive, line = _asked(row), _line_of(row)
        if isinstance(directive, Prefill):
            self._prompts.add(row)
            return
        if not row.has_prefilled:
            row.prefilled()
        if isinstance(directive, Passes) and directive.crop is not None and context is not None:
            context = context.part(tokens=slice(directive.crop))
        key = self._arenas.key_for(line, directive, 0 if context is None else context.tokens)
        arena, place = self._arenas.join(key, row, context)
        row.context = None
        seat(arena.slate, place, line, self._table.row_of(line.sampling.banned_token_ids))
        try:
            self._open(row, arena, place)
        except Exception:
            arena.leave(place)
            raise

    def _placed(self, row: Row, context: KeyValues | None) -> bool:
        try:
            self._place(row, context)
        except Exception as error:  # as above
            self._policy_failed(row, error)
            return False
        return True

    def _open(self, row: Row, arena: ContextArena, place: int) -> None:
        directive, line, drafts = _asked(row), _line_of(row), row.request.drafts
        if isinstance(directive, Passes):
            open_passes(arena.slate, place, line, directive, drafts)
        elif not isinstance(directive, Prefill):
            open_speculation(arena.slate, place, line, directive, drafts)
        if arena.slate.shows[place]:
            show(arena.slate, place, line)
            row.emit_draft()

    def _answer(self, row: Row, outcome: Outcome) -> bool:
        """Moves a row's policy on; False when the row has ended by it."""
        try:
            alive = row.answer(outcome)
        except Exception as error:  # a policy that raises loses its own line only
            self._policy_failed(row, error)
            return False
        if not alive:
            self._counters.line(row.finish_whole())
        return alive

    def _policy_failed(self, row: Row, error: Exception) -> None:
        _log.error("the policy of line %d raised", row.id, exc_info=error)
        self._fail(row, EngineError(f"the line's policy failed ({error!r})"))

    def _step_failed(self, rows: list[Row], error: Exception) -> list[Row]:
        """Ends the rows of a step that failed, and no others."""
        _log.warning("a step of %d rows failed: %s", len(rows), error)
        for row in rows:
            self._remove(row)
            self._fail(row, error if isinstance(error, DlmError) else EngineError(f"the engine failed ({error!r})"))
        self._arenas.release()
        return rows

    def _fail(self, row: Row, error: DlmError) -> None:
        row.fail(error)
        self._counters.failed += 1

    def _remove(self, row: Row) -> None:
        """Takes a row out in the middle of its directive. What that has written so far is the line's."""
        if row in self._prompts.rows:
            self._prompts.rows.remove(row)
        elif (found := self._arenas.find(row)) is not None:
            arena, place = found
            row.forwards += int(arena.slate.spent[place])
            settle(arena.slate, place, _line_of(row))
            arena.leave(place)


def _line_of(row: Row) -> Line:
    if row.line is None:
        raise RuntimeError(f"row {row.id} was never begun")
    return row.line


def _asked(row: Row) -> Directive:
    if row.asked is None:
        raise RuntimeError(f"row {row.id} asks for nothing")
    return row.asked
