"""A `LineSpec` whose every field has been checked."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

from dlm_npc.v1.line_spec_pb2 import LineSpec
from dlm_npc.v1.mode_pb2 import Mode as WireMode

from dlm_runtime.bundle import Mode
from dlm_runtime.dialogue.amount import Amount
from dlm_runtime.dialogue.prompt import MAX_PLAYER_CHARS, clean_player_text
from dlm_runtime.dialogue.text import clean_line
from dlm_runtime.dialogue.turn import Turn
from dlm_runtime.errors import RequestError
from dlm_runtime.scheduler.types import MAX_GUIDANCE, MAX_PENALTY

DEFAULT_NEW_TOKENS = 64
MAX_TURNS = 64
MAX_TOP_K = 2048  # the step graph looks at no more
_NAME = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_LIMITS: dict[str, tuple[float, float]] = {
    "budget_ms": (0, 600_000),
    "priority": (-100, 100),
    "max_chars": (0, 4_000),
    "max_new_tokens": (0, 1_024),
    "threshold": (0.0, 1.0),
    "temperature": (0.0, 2.0),
    "seed": (0, 2**31 - 2),
    "top_k": (0, MAX_TOP_K),
    "top_p": (0.0, 1.0),
    "repetition_penalty": (0.0, MAX_PENALTY),
    "guidance": (0.0, MAX_GUIDANCE),
}
WIRE_MODES: dict[Mode, WireMode] = {
    "diffusion": WireMode.MODE_DIFFUSION,
    "self_speculation": WireMode.MODE_SELF_SPECULATION,
    "ar": WireMode.MODE_AR,
}
_MODES: dict[int, Mode] = {int(number): mode for mode, number in WIRE_MODES.items()}


@dataclass(frozen=True, slots=True)
class Order:
    """A line that is wanted. None means the bundle's or the server's default."""

    request_id: str
    session_id: str
    character_id: str
    player_text: str
    history: tuple[Turn, ...]
    mode: Mode | None
    budget_ms: int | None
    priority: int
    max_chars: int
    max_new_tokens: int
    threshold: float | None
    temperature: float
    seed: int
    fallback_text: str
    top_k: int
    top_p: float
    repetition_penalty: float
    guidance: float
    sampler: str | None


def check_order(spec: LineSpec, modes: tuple[Mode, ...]) -> Order:
    """Check every field against the limits in `line_spec.proto`. Raises `RequestError` naming the first one at fault."""
    for field, (low, high) in _LIMITS.items():
        value = getattr(spec, field)
        if not low <= value <= high:  # not a number fails too
            raise RequestError(f"line.{field}", value, f"give a number from {low} to {high}, or 0 for the default")
    if not spec.character_id:
        raise RequestError("line.character_id", "", "name the character that shall answer")
    return Order(
        request_id=_check_name("request_id", spec.request_id) or uuid.uuid4().hex,
        session_id=_check_name("session_id", spec.session_id),
        character_id=_check_length("character_id", spec.character_id, 64),
        player_text=clean_player_text(spec.player_text, "line.player_text"),
        history=_check_history(spec),
        mode=_check_mode(spec.mode, modes),
        budget_ms=spec.budget_ms or None,
        priority=spec.priority,
        max_chars=spec.max_chars,
        max_new_tokens=spec.max_new_tokens or DEFAULT_NEW_TOKENS,
        threshold=round(spec.threshold, 6) if spec.threshold else None,  # 0.9 travels as 0.89999998
        temperature=round(spec.temperature, 6),
        seed=spec.seed,
        fallback_text=clean_line(_check_length("fallback_text", spec.fallback_text, MAX_PLAYER_CHARS)),
        top_k=spec.top_k,
        top_p=_unless_zero(spec.top_p, 1.0),
        repetition_penalty=_unless_zero(spec.repetition_penalty, 1.0),
        guidance=round(spec.guidance, 6),
        sampler=_check_name("sampler", spec.sampler) or None,
    )


def _unless_zero(value: float, default: float) -> float:
    """0 means the default, and nothing else does, however small."""
    return max(round(value, 6), 1e-6) if value else default


def _check_name(field: str, value: str) -> str:
    if value and not _NAME.fullmatch(value):
        raise RequestError(f"line.{field}", value, "use at most 64 characters out of A-Z a-z 0-9 . _ : -")
    return value


def _check_length(field: str, value: str, max_chars: int) -> str:
    if len(value) > max_chars:
        raise RequestError(f"line.{field}", Amount(len(value), "characters"), f"send at most {max_chars}")
    return value


def _check_mode(number: int, modes: tuple[Mode, ...]) -> Mode | None:
    if number == WireMode.MODE_UNSPECIFIED:
        return None
    mode = _MODES.get(number)
    offered = ", ".join(f"{WireMode.Name(WIRE_MODES[mode])} ({WIRE_MODES[mode]})" for mode in modes)
    if mode is None or mode not in modes:
        raise RequestError("line.mode", number if mode is None else mode, f"this bundle offers {offered}; leave it out for the default")
    return mode


def _check_history(spec: LineSpec) -> tuple[Turn, ...]:
    if spec.history and spec.session_id:
        raise RequestError(
            "line.history", Amount(len(spec.history), "turns"), "leave it empty when session_id is set, or the other way round"
        )
    if len(spec.history) > MAX_TURNS:
        raise RequestError("line.history", Amount(len(spec.history), "turns"), f"send the latest {MAX_TURNS} at most")
    turns: list[Turn] = []
    for index, turn in enumerate(spec.history):
        player_text = clean_player_text(turn.player_text, f"line.history[{index}].player_text")
        turns.append(Turn(player_text, clean_player_text(turn.line_text, f"line.history[{index}].line_text")))
    return tuple(turns)
