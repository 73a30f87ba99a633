"""Lets characters speak: from an order over the scheduler to wire events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from dlm_npc.v1.line_pb2 import Line, LineAccepted, LineDraft

from dlm_runtime.bundle import Manifest
from dlm_runtime.dialogue.character import Character
from dlm_runtime.dialogue.draft import DraftRenderer
from dlm_runtime.dialogue.line import finish_text
from dlm_runtime.dialogue.prompt import Prompt, PromptBuilder
from dlm_runtime.dialogue.roster import Roster
from dlm_runtime.dialogue.session import SessionStore
from dlm_runtime.dialogue.tokens import Tokens
from dlm_runtime.dialogue.turn import Turn
from dlm_runtime.errors import PromptTooLong, RequestError, SchedulerClosed
from dlm_runtime.scheduler import Accepted, Draft, Failed, LineRequest, LineResult, Listener, Ticket
from dlm_runtime.service.mailbox import Mailbox
from dlm_runtime.service.messages import draft_message, line_message
from dlm_runtime.service.order import Order

_SHUT_DOWN = "the server shut down before the line was whole"


class LineScheduler(Protocol):
    """What this layer needs of a scheduler."""

    def submit(self, request: LineRequest, listener: Listener) -> Ticket: ...


@dataclass(frozen=True)
class Speaker:
    """Everything that it takes to turn orders into lines. Lives on one event loop."""

    manifest: Manifest
    roster: Roster
    tokens: Tokens
    prompts: PromptBuilder
    scheduler: LineScheduler
    model_sha256: str = ""
    sessions: SessionStore = field(default_factory=SessionStore)
    _open: set[Mailbox] = field(default_factory=set)

    def cut_off(self) -> None:
        """End every open line with `SchedulerClosed`; for a shutdown whose patience is over."""
        for mailbox in self._open:
            mailbox.post(Failed(SchedulerClosed(_SHUT_DOWN)))

    @property
    def _drafts(self) -> DraftRenderer:
        return DraftRenderer(self.tokens, self.manifest.mask_token_id, frozenset(self.manifest.eos_token_ids))

    async def speak(self, order: Order, drafts: bool = False) -> AsyncGenerator[LineAccepted | LineDraft | Line]:
        """Events of one line: accepted, drafts if wanted, the line. Closing the generator frees the row at the next step.

        Raises `RequestError` and its kin before the first event; afterwards `EngineError` or `SchedulerClosed`.
        """
        character = self.roster.get(order.character_id, "line.character_id")
        prompt = self._prompt(order, character)
        mailbox = Mailbox(asyncio.get_running_loop())
        ticket = self._submit(order, prompt, mailbox, drafts)
        self._open.add(mailbox)
        try:
            while True:
                event = await mailbox.next()
                if isinstance(event, Accepted):
                    yield self._accepted(order, prompt, event)
                elif isinstance(event, Draft):
                    yield self._draft(order, event, mailbox.revision)
                elif isinstance(event, Failed):
                    raise event.error
                else:
                    yield self._finish(order, prompt, event.result)
                    return
        finally:
            self._open.discard(mailbox)
            ticket.cancel()

    def _prompt(self, order: Order, character: Character) -> Prompt:
        history = order.history or self.sessions.history(order.session_id, order.character_id)
        return self.prompts.build(character, history, order.player_text, order.max_new_tokens, "line.player_text")

    def _submit(self, order: Order, prompt: Prompt, mailbox: Mailbox, drafts: bool) -> Ticket:
        try:
            request = LineRequest(
                prompt_ids=prompt.ids,
                mode=order.mode,
                max_new_tokens=order.max_new_tokens,
                threshold=order.threshold,
                temperature=order.temperature,
                seed=order.seed,
                priority=order.priority,
                budget_ms=order.budget_ms,
                drafts=drafts,
                sampler=order.sampler,
                top_k=order.top_k,
                top_p=order.top_p,
                repetition_penalty=order.repetition_penalty,
                guidance=order.guidance,
            )
            return self.scheduler.submit(request, mailbox.post)
        except RequestError as error:
            raise _in_wire_terms(error) from error

    def _accepted(self, order: Order, prompt: Prompt, event: Accepted) -> LineAccepted:
        return LineAccepted(
            request_id=order.request_id,
            queue_position=event.queue_position,
            prompt_tokens=len(prompt.ids),
            history_turns=prompt.history_turns,
        )

    def _draft(self, order: Order, event: Draft, revision: int) -> LineDraft:
        return draft_message(self._drafts.render(event.token_ids, event.frozen, order.max_chars), revision)

    def _finish(self, order: Order, prompt: Prompt, result: LineResult) -> Line:
        if result.finish_reason == "cancelled":  # not by us: this call is still here
            raise SchedulerClosed(_SHUT_DOWN)
        spoken = finish_text(self.tokens.decode(result.token_ids), order.max_chars, order.fallback_text)
        if order.session_id and spoken.text:
            self.sessions.append(order.session_id, order.character_id, Turn(order.player_text, spoken.text))
        return line_message(order, len(prompt.ids), result, spoken, self.model_sha256)


def _in_wire_terms(error: RequestError) -> RequestError:
    """The same error with the field named as the caller knows it."""
    field_name = "player_text" if error.field.startswith("prompt") else error.field
    kind = PromptTooLong if isinstance(error, PromptTooLong) else RequestError
    return kind(f"line.{field_name}", error.value, error.remedy)
