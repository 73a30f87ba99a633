"""Who is asked what: one encounter per player."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from dlm_runtime.dialogue.character import Character
from dlm_runtime.dialogue.roster import Roster


@dataclass(frozen=True)
class Encounter:
    """A player's words to one character."""

    character_id: str
    character_name: str
    player_text: str


def gather(roster: Roster, players: Path, count: int, seed: int) -> list[Encounter]:
    """`count` encounters, as many different characters as there are before one is asked twice.

    With seed 0 the authored openings of `players` come first. Any other seed draws who is asked and what, from the questions that
    the characters' cards can answer.
    """
    data = yaml.safe_load(players.read_text(encoding="utf-8"))
    rng = random.Random(seed)
    encounters: list[Encounter] = []
    if seed == 0:
        encounters = [_encounter(roster.get(line["character"]), line["text"]) for line in data["lines"]][:count]
    asked = {(one.character_id, one.player_text) for one in encounters}
    for character in _rounds(roster, rng):
        if len(encounters) >= count:
            break
        options = [text for text in _questions(character, data["questions"]) if (character.id, text) not in asked]
        text = rng.choice(options or _questions(character, data["questions"]))
        asked.add((character.id, text))
        encounters.append(_encounter(character, text))
    return encounters


def _encounter(character: Character, text: str) -> Encounter:
    return Encounter(character.id, character.name, text)


def _rounds(roster: Roster, rng: random.Random) -> Iterator[Character]:
    """Everybody once in random order, then everybody again, for ever."""
    while True:
        order = list(roster)
        rng.shuffle(order)
        yield from order


def _questions(character: Character, by_fact: dict[str, list[str]]) -> list[str]:
    known = {"name", "trade", *character.facts}
    wares = character.facts.get("sells")
    questions: list[str] = []
    for fact, texts in by_fact.items():
        if fact not in known:
            continue
        if fact == "sells" and isinstance(wares, dict):
            questions += [text.format(ware=ware) for ware in wares for text in texts]
        elif fact != "sells":
            questions += texts
    return questions
