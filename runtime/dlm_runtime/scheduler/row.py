"""A row: one line on its way through the scheduler, from its submission to its last event."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable

from dlm_runtime.bundle import Manifest, Mode
from dlm_runtime.engines.key_values import KeyValues
from dlm_runtime.errors import DlmError
from dlm_runtime.policies.choose import policy_for
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Decoding, Directive, Outcome, Policy
from dlm_runtime.scheduler.types import Draft, Failed, Finished, FinishReason, LineEvent, LineRequest, LineResult, Listener

_log = logging.getLogger(__name__)
_numbers = itertools.count(1)


class Row:
    """Implements Ticket. Everything but `cancel` belongs to the scheduler's thread once the row is queued."""

    def __init__(
        self,
        request: LineRequest,
        mode: Mode,
        listener: Listener,
        wake: Callable[[], None],
        policy: Policy | None = None,
        line: Line | None = None,
    ) -> None:
        self.id = next(_numbers)
        self.request = request
        self.mode: Mode = mode
        self.cancelled = False
        self.asked: Directive | None = None
        self.line = line
        self.prompt: tuple[int, ...] = ()  # what a Prefill runs
        self.context: KeyValues | None = None  # one row of at least as many tokens, while the prompt is run; then in an arena
        self.context_tokens = 0
        self.cached_tokens = 0
        self.forwards = 0
        self.passes: list[tuple[str, int]] = []  # directives that are over, and how many passes they took
        self._policy = policy
        self._listener = listener
        self._wake = wake
        self._decoding: Decoding | None = None
        self._last_event: Finished | Failed | None = None
        self._shown_revision = 0
        self._submitted_s = time.monotonic()
        self._admitted_s: float | None = None
        self._prefilled_s: float | None = None
        deadline_s = math.inf if request.budget_ms is None else self._submitted_s + request.budget_ms / 1000
        self.rank = (deadline_s, -request.priority, self.id)
        """Rows of lower rank go first: earliest deadline, then higher priority, then first come."""

    @property
    def ended(self) -> bool:
        """Whether the last event is known, delivered or not."""
        return self._last_event is not None

    def cancel(self) -> None:
        """Ticket.cancel."""
        self.cancelled = True
        self._wake()

    def begin(self, manifest: Manifest) -> None:
        """Admits the row: its policy asks for the first thing to run."""
        self._admitted_s = time.monotonic()
        request = self.request
        if self.line is None:
            self.line = Line(request.prompt_ids, request.max_new_tokens, manifest.eos_token_ids, request.sampling)
        policy = self._policy or policy_for(manifest, self.mode, request.threshold, request.sampler)
        self._decoding = policy.decode(self.line)
        self.asked = next(self._decoding, None)

    @property
    def has_prefilled(self) -> bool:
        """Whether `prefilled` has been called."""
        return self._prefilled_s is not None

    def prefilled(self) -> None:
        """Notes that the prompt has been run."""
        self._prefilled_s = time.monotonic()

    def answer(self, outcome: Outcome) -> bool:
        """Hands the policy what its directive came to; False when the line has ended. Raises what the policy raises."""
        if self._decoding is None:
            raise RuntimeError(f"row {self.id} was never begun")
        self.passes.append((type(self.asked).__name__, outcome.passes))
        try:
            self.asked = self._decoding.send(outcome)
            return True
        except StopIteration:
            self.asked = None
            return False

    def emit_draft(self) -> None:
        """Shows the line as it stands, if the caller wants drafts and it has changed."""
        if not self.request.drafts or self.line is None or self.line.revision == self._shown_revision:
            return
        self._shown_revision = self.line.revision
        self.emit(Draft(*self.line.draft()))

    def finish(self, reason: FinishReason) -> LineResult:
        """Ends the row with the line it has. `deliver` tells the caller."""
        result = self._result(reason)
        self._end(Finished(result))
        return result

    def finish_whole(self) -> LineResult:
        """Ends a row whose policy is done."""
        if self.line is None or self.line.ending is None:
            raise RuntimeError(f"the policy of row {self.id} ended without ending its line")
        return self.finish(self.line.ending)

    def fail(self, error: DlmError) -> None:
        """Ends the row without a line. `deliver` tells the caller."""
        self._end(Failed(error))

    def deliver(self) -> None:
        """Sends the last event of a row that has ended; apart from ending it, so that its place is free by the time the caller hears."""
        if self._last_event is None:
            raise RuntimeError(f"row {self.id} has not ended")
        self.emit(self._last_event)

    def emit(self, event: LineEvent) -> None:
        """Calls the listener. One that raises loses its line, nobody else does."""
        try:
            self._listener(event)
        except Exception:  # whatever a caller's function raises must not reach other rows
            _log.exception("the listener of line %d raised; the line is dropped", self.id)
            self.cancel()

    def _end(self, event: Finished | Failed) -> None:
        if self._last_event is not None:
            raise RuntimeError(f"row {self.id} ended twice")
        self._last_event = event
        if self._decoding is not None:
            self._decoding.close()
        self.context = None

    def _result(self, reason: FinishReason) -> LineResult:
        now_s = time.monotonic()
        admitted_s = now_s if self._admitted_s is None else self._admitted_s
        prefilled_s = now_s if self._prefilled_s is None else self._prefilled_s
        line = self.line
        return LineResult(
            token_ids=() if line is None else line.text_ids,
            finish_reason=reason,
            tokens=0 if line is None else len(line.tokens),
            forwards=self.forwards,
            prefill_tokens=len(self.request.prompt_ids) - self.cached_tokens,
            cached_tokens=self.cached_tokens,
            queue_ms=(admitted_s - self._submitted_s) * 1000,
            prefill_ms=(prefilled_s - admitted_s) * 1000,
            total_ms=(now_s - self._submitted_s) * 1000,
            mode=self.mode,
            seed=self.request.seed,
        )
