"""One exchange between a player and a character."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """What the player said and the line that answered it, both on one line."""

    player_text: str
    line_text: str
