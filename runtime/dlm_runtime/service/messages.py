"""Results in the shape of the wire."""

from __future__ import annotations

from collections.abc import Sequence

from dlm_npc.v1.line_pb2 import DraftPiece, FinishReason, Line, LineDraft, LineTimings
from dlm_npc.v1.world_pb2 import Character as CharacterMessage

from dlm_runtime.dialogue.character import Character
from dlm_runtime.dialogue.draft import Piece
from dlm_runtime.dialogue.line import SpokenText
from dlm_runtime.scheduler import LineResult
from dlm_runtime.service.order import WIRE_MODES, Order


def draft_message(pieces: Sequence[Piece], revision: int) -> LineDraft:
    """A draft from its pieces."""
    return LineDraft(
        revision=revision,
        text="".join(piece.text for piece in pieces),
        pieces=[DraftPiece(text=piece.text, frozen=piece.frozen) for piece in pieces],
    )


def line_message(order: Order, prompt_tokens: int, result: LineResult, spoken: SpokenText, model_sha256: str) -> Line:
    """A finished line."""
    return Line(
        request_id=order.request_id,
        character_id=order.character_id,
        text=spoken.text,
        finish_reason=_finish_reason(result, spoken),
        mode=WIRE_MODES[result.mode],
        seed=result.seed,
        tokens=result.tokens,
        forwards=result.forwards,
        prompt_tokens=prompt_tokens,
        cached_tokens=result.cached_tokens,
        timings=LineTimings(queue_ms=result.queue_ms, prefill_ms=result.prefill_ms, total_ms=result.total_ms),
        model_sha256=model_sha256,
    )


def character_message(character: Character) -> CharacterMessage:
    """What a game may know of a character."""
    return CharacterMessage(id=character.id, name=character.name, trade=character.trade, voice=character.voice, mood=character.mood)


def _finish_reason(result: LineResult, spoken: SpokenText) -> FinishReason:
    if spoken.is_fallback:
        return FinishReason.FINISH_REASON_FALLBACK
    if spoken.was_cut:
        return FinishReason.FINISH_REASON_MAX_CHARS
    return FinishReason.FINISH_REASON_END if result.finish_reason == "eos" else FinishReason.FINISH_REASON_MAX_TOKENS
