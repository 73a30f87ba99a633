"""Token ids of one character card and the conversations held about it, ready to be packed into a training row."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Turn:
    """One exchange: `prompt` ends with `<|npc|>`; `reply` ends with `<|end|>`.

    `sources[i]` is the index, within the card, of the token that `reply[i]` repeats, or None where it repeats no fact.
    """

    prompt: list[int]
    reply: list[int]
    sources: list[int | None]


@dataclass
class CardSample:
    """A card and conversations (branches) about it. Each branch sees the card and itself, never another branch."""

    card: list[int]
    branches: list[list[Turn]] = field(default_factory=list)
