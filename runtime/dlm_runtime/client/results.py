"""What calls answer with, as plain Python values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dlm_npc.v1 import dialogue_pb2, line_pb2, mode_pb2, world_pb2

Mode = Literal["diffusion", "self_speculation", "ar"]
FinishReason = Literal["end", "max_tokens", "max_chars", "fallback", "unspecified"]
WIRE_MODES: dict[Mode, mode_pb2.Mode] = {
    "diffusion": mode_pb2.Mode.MODE_DIFFUSION,
    "self_speculation": mode_pb2.Mode.MODE_SELF_SPECULATION,
    "ar": mode_pb2.Mode.MODE_AR,
}
_MODES: dict[int, Mode] = {int(number): mode for mode, number in WIRE_MODES.items()}
_REASONS: dict[int, FinishReason] = {
    line_pb2.FINISH_REASON_END: "end",
    line_pb2.FINISH_REASON_MAX_TOKENS: "max_tokens",
    line_pb2.FINISH_REASON_MAX_CHARS: "max_chars",
    line_pb2.FINISH_REASON_FALLBACK: "fallback",
}


@dataclass(frozen=True, slots=True)
class Line:
    """A finished line. Counts are in tokens and forward passes; times are the server's own, in milliseconds."""

    text: str
    character_id: str
    finish_reason: FinishReason
    mode: Mode
    seed: int
    tokens: int
    forwards: int
    prompt_tokens: int
    cached_tokens: int
    queue_ms: float
    prefill_ms: float
    total_ms: float
    request_id: str
    model_sha256: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server took the request. `queue_position` lines wait in front of it."""

    request_id: str
    queue_position: int
    prompt_tokens: int
    history_turns: int


@dataclass(frozen=True, slots=True)
class DraftPiece:
    """Part of a draft. Frozen text is the same in every later draft."""

    text: str
    frozen: bool


@dataclass(frozen=True, slots=True)
class Draft:
    """The whole line as known so far; replaces the draft before it."""

    revision: int
    text: str
    pieces: tuple[DraftPiece, ...]


@dataclass(frozen=True, slots=True)
class CharacterInfo:
    """A character that can speak."""

    id: str
    name: str
    trade: str
    voice: str
    mood: str


def read_line(message: line_pb2.Line) -> Line:
    """A line from its message."""
    return Line(
        text=message.text,
        character_id=message.character_id,
        finish_reason=_REASONS.get(message.finish_reason, "unspecified"),
        mode=_MODES.get(message.mode, "ar"),
        seed=message.seed,
        tokens=message.tokens,
        forwards=message.forwards,
        prompt_tokens=message.prompt_tokens,
        cached_tokens=message.cached_tokens,
        queue_ms=message.timings.queue_ms,
        prefill_ms=message.timings.prefill_ms,
        total_ms=message.timings.total_ms,
        request_id=message.request_id,
        model_sha256=message.model_sha256,
    )


def read_event(message: dialogue_pb2.SpeakStreamResponse) -> Accepted | Draft | Line | None:
    """An event from its message; None for a kind that this client does not know yet."""
    kind = message.WhichOneof("event")
    if kind == "accepted":
        event = message.accepted
        return Accepted(event.request_id, event.queue_position, event.prompt_tokens, event.history_turns)
    if kind == "draft":
        pieces = tuple(DraftPiece(piece.text, piece.frozen) for piece in message.draft.pieces)
        return Draft(message.draft.revision, message.draft.text, pieces)
    return read_line(message.final) if kind == "final" else None


def read_character(message: world_pb2.Character) -> CharacterInfo:
    """A character from its message."""
    return CharacterInfo(message.id, message.name, message.trade, message.voice, message.mood)
