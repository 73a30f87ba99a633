"""DialogueService. Its methods are documented in `dialogue.proto`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from dlm_npc.v1.dialogue_pb2 import SpeakRequest, SpeakResponse, SpeakStreamRequest, SpeakStreamResponse
from dlm_npc.v1.line_pb2 import Line, LineAccepted, LineDraft

from dlm_runtime.errors import SchedulerClosed
from dlm_runtime.service.handlers import Context
from dlm_runtime.service.order import check_order
from dlm_runtime.service.speaker import Speaker


@dataclass(frozen=True)
class DialogueServicer:
    """Answers the calls of DialogueService."""

    speaker: Speaker

    async def Speak(self, request: SpeakRequest, context: Context) -> SpeakResponse:
        async with aclosing(self.speaker.speak(check_order(request.line, self.speaker.manifest.modes))) as events:
            async for event in events:
                if isinstance(event, Line):
                    return SpeakResponse(line=event)
        raise SchedulerClosed("the line ended without a result")

    async def SpeakStream(self, request: SpeakStreamRequest, context: Context) -> AsyncGenerator[SpeakStreamResponse]:
        order = check_order(request.line, self.speaker.manifest.modes)
        async with aclosing(self.speaker.speak(order, drafts=not request.omit_drafts)) as events:
            async for event in events:
                yield _wrap(event)


def _wrap(event: LineAccepted | LineDraft | Line) -> SpeakStreamResponse:
    if isinstance(event, LineAccepted):
        return SpeakStreamResponse(accepted=event)
    if isinstance(event, LineDraft):
        return SpeakStreamResponse(draft=event)
    return SpeakStreamResponse(final=event)
