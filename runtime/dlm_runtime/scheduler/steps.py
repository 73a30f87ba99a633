"""Running the rows that have been admitted: prompts first, then everything that is being written."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dlm_runtime.cache import PrefixCache
from dlm_runtime.engines.base import Engine, StepResult
from dlm_runtime.errors import DlmError, EngineError
from dlm_runtime.policies import Forward, Reply
from dlm_runtime.scheduler.arena import ContextArena
from dlm_runtime.scheduler.arenas import Arenas
from dlm_runtime.scheduler.assemble import assemble, replies
from dlm_runtime.scheduler.counters import Counters
from dlm_runtime.scheduler.prefill import Chunk, PromptRunner
from dlm_runtime.scheduler.row import Row
from dlm_runtime.scheduler.tables import allow_table

_log = logging.getLogger(__name__)


class Steps:
    """The admitted rows. What runs something returns the rows that ended by it, their last event not yet delivered."""

    def __init__(self, engine: Engine, cache: PrefixCache, counters: Counters, prefill_step_tokens: int) -> None:
        self._engine = engine
        self._counters = counters
        self._table = allow_table(engine.manifest)
        self._prompts = PromptRunner(engine.manifest, cache, prefill_step_tokens)
        self._arenas = Arenas(engine.manifest)

    def __len__(self) -> int:
        return len(self._prompts.rows) + len(self._arenas)

    def admit(self, rows: Sequence[Row]) -> list[Row]:
        """Takes in rows, whose prompts begin at the next `run`, and returns those that could not even begin."""
        for row in rows:
            if self._begin(row):
                self._prompts.rows.append(row)
        return [row for row in rows if row.ended]

    def run(self) -> Iterator[list[Row]]:
        """A bounded number of prompt tokens, then one step of every row whose prompt is done; yields after each engine call.

        Between two of them rows may be taken away.
        """
        for chunks in self._prompts.plan():
            if here := [chunk for chunk in chunks if not chunk.row.ended]:
                yield self._prompt_step(here)
        for arena in self._arenas:
            if arena.rows:
                yield self._block_step(arena)

    def take_cancelled(self) -> list[Row]:
        """Removes and returns the rows whose tickets were cancelled."""
        gone = [row for row in [*self._prompts.rows, *self._arenas.rows] if row.cancelled]
        self._remove(gone)
        return gone

    def take_all(self) -> list[Row]:
        """Removes and returns every row."""
        rows = list(dict.fromkeys([*self._prompts.rows, *self._arenas.rows]))  # after a fault a row may stand in both
        self._prompts.rows.clear()
        self._arenas.clear()
        return rows

    def _prompt_step(self, chunks: list[Chunk]) -> list[Row]:
        rows = [chunk.row for chunk in chunks]
        outcome = self._forward(rows, [chunk.forward for chunk in chunks], self._prompts.past(chunks))
        if outcome is None:
            self._remove(rows)
            return rows
        result, answers = outcome
        if result.present is not None:
            self._prompts.keep(chunks, result.present)
        ended: list[Row] = []
        for chunk, reply in zip(chunks, answers, strict=True):
            if not chunk.last:
                continue
            chunk.row.prefilled()
            if self._answer(chunk.row, reply):
                self._arenas.place(chunk.row)
            else:
                ended.append(chunk.row)
            self._prompts.rows.remove(chunk.row)
        return ended

    def _block_step(self, arena: ContextArena) -> list[Row]:
        rows = list(arena.rows)
        outcome = self._forward(rows, [_forward_of(row) for row in rows], arena.past)
        if outcome is None:
            self._remove(rows)
            return rows
        result, answers = outcome
        lives = [self._answer(row, reply) for row, reply in zip(rows, answers, strict=True)]
        counts = [reply.kept if alive else 0 for reply, alive in zip(answers, lives, strict=True)]
        if result.present is not None:
            arena.append(result.present, counts)
        ended = [row for row, alive in zip(rows, lives, strict=True) if not alive]
        for row in ended:
            arena.leave(row)
        self._arenas.regroup(arena)
        return ended

    def _forward(self, rows: list[Row], forwards: list[Forward], past: NDArray[np.float32]) -> tuple[StepResult, list[Reply]] | None:
        """One engine call; None when it failed, and then these rows have ended with it and no others."""
        try:
            batch = assemble(rows, forwards, past, self._table, self._engine.manifest.pad_token_id)
            started_s = time.perf_counter()
            result = self._engine.step(batch)
            self._counters.step(len(rows), time.perf_counter() - started_s)
            if batch.want_present and result.present is None:
                raise EngineError("the engine left out the keys and values it was asked for")
            answers = replies(forwards, batch, result)
        except Exception as error:  # whatever an engine raises concerns the rows of this step only
            _log.warning("a step of %d rows failed: %s", len(rows), error)
            for row in rows:
                self._fail(row, error if isinstance(error, DlmError) else EngineError(f"the engine failed ({error!r})"))
            return None
        for row in rows:
            row.forwards += 1
        return result, answers

    def _begin(self, row: Row) -> bool:
        """Starts a row's policy; False when the row has ended by it."""
        try:
            row.begin(self._engine.manifest)
        except Exception as error:  # a policy that raises loses its own line only
            self._policy_failed(row, error)
            return False
        return True

    def _answer(self, row: Row, reply: Reply) -> bool:
        """Moves a row's policy on; False when the row has ended by it."""
        try:
            alive = row.answer(reply)
        except Exception as error:  # as above
            self._policy_failed(row, error)
            return False
        if alive:
            row.emit_draft()
        else:
            self._counters.line(row.finish_whole())
        return alive

    def _policy_failed(self, row: Row, error: Exception) -> None:
        _log.error("the policy of line %d raised", row.id, exc_info=error)
        self._fail(row, EngineError(f"the line's policy failed ({error!r})"))

    def _fail(self, row: Row, error: DlmError) -> None:
        row.fail(error)
        self._counters.failed += 1

    def _remove(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row in self._prompts.rows:
                self._prompts.rows.remove(row)
            else:
                self._arenas.remove(row)


def _forward_of(row: Row) -> Forward:
    if not isinstance(row.asked, Forward):
        raise TypeError(f"row {row.id} asks for {type(row.asked).__name__} after its prompt")
    return row.asked
