"""What can be said about a line besides who speaks and what was said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from dlm_npc.v1.line_spec_pb2 import LineSpec
from dlm_npc.v1.turn_pb2 import Turn

from dlm_runtime.client.results import WIRE_MODES, Mode


class SpeakOptions(TypedDict, total=False):
    """Fields of `LineSpec`, all optional; `line_spec.proto` has their meaning, limits and defaults. History is (player, line) pairs."""

    request_id: str
    session_id: str
    history: Sequence[tuple[str, str]]
    mode: Mode
    budget_ms: int
    priority: int
    max_chars: int
    max_new_tokens: int
    threshold: float
    temperature: float
    seed: int
    fallback_text: str
    top_k: int
    top_p: float
    repetition_penalty: float
    guidance: float
    sampler: str


def line_spec(character_id: str, player_text: str, options: SpeakOptions) -> LineSpec:
    """The message for a line. Raises `ValueError` for an unknown mode and whatever protobuf raises for a value that it cannot carry."""
    plain = {name: value for name, value in options.items() if name not in ("mode", "history")}
    # What is left of the TypedDict has the message's own names and types, which a checker cannot see.
    spec = LineSpec(character_id=character_id, player_text=player_text, **plain)  # pyright: ignore[reportArgumentType]
    if mode := options.get("mode"):
        if mode not in WIRE_MODES:
            raise ValueError(f"{mode=} must be one of {', '.join(WIRE_MODES)}")
        spec.mode = WIRE_MODES[mode]
    spec.history.extend(Turn(player_text=player, line_text=line) for player, line in options.get("history", ()))
    return spec
