"""Invents villagers: a card of facts with made-up names and numbers, so that the only way to know a fact is to read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tavern_model import writing

SLOT_KEYS = {
    **{"kin_name": "kin", "rumour_place": "rumour", "town": "road", "days": "road"},
    **{"ware": "sells", "ware1": "sells", "ware2": "sells", "price": "sells"},
}  # the card's key for each slot that is not named like it
WARE_COUNT_SHARES = (0.1, 0.25, 0.4, 0.25)  # of villagers who sell 0, 1, 2, 3 wares
HELD_OUT_SHARE = 10  # one name in this many is kept for evaluation


@dataclass(frozen=True)
class Villager:
    """A character card. `facts` maps a card key to its value, in card order; `sells` maps wares to prices."""

    name: str
    trade: str
    voice: str
    mood: str
    facts: dict[str, str]
    sells: dict[str, int]

    def card_text(self) -> str:
        """The card as the model reads it, one `key: value` a line."""
        head = {"name": self.name, "trade": self.trade, "voice": self.voice, "mood": self.mood}
        return "\n".join(f"{key}: {value}" for key, value in (head | self.facts).items())

    def where(self, slot: str, value: str, ware: str = "") -> int:
        """Index of the character in `card_text()` where the value of `slot` begins; `ware` is the one a price belongs to."""
        text = self.card_text()
        key = SLOT_KEYS.get(slot, slot)
        line = f"sells {ware or value}:" if key == "sells" else f"{key}:"
        start = f"\n{text}".index(f"\n{line}")
        return text.index(value, start if slot.startswith("ware") else start + len(line))

    def slots(self) -> dict[str, str]:
        """What templates may name: card facts split into slots. A ware's `ware` and `price` depend on the question and are not here."""
        slots = {"name": self.name, "trade": self.trade}
        for key in ("home", "friend", "rival", "years", "lost", "reward", "drink", "fear", "saint"):
            if key in self.facts:
                slots[key] = self.facts[key]
        if "kin" in self.facts:
            slots["kin"], slots["kin_name"] = self.facts["kin"].split(" ", 1)
        if "rumour" in self.facts:
            slots["rumour"], slots["rumour_place"] = self.facts["rumour"].split(" near ")
        if "road" in self.facts:
            slots["town"], slots["days"] = self.facts["road"].rsplit(" ", 1)
        if len(self.sells) >= 2:
            slots["ware1"], slots["ware2"] = list(self.sells)[:2]
        return slots


def held_out(name: str) -> bool:
    """Whether a name is reserved for evaluation (a stable function of its letters)."""
    return sum(ord(letter) * (index + 3) for index, letter in enumerate(name)) % HELD_OUT_SHARE == 0


class World:
    """Draws villagers. `evaluation` uses only held-out names, training only the others."""

    def __init__(self, rng: np.random.Generator, evaluation: bool = False) -> None:
        self.rng, self.evaluation = rng, evaluation

    def pick(self, options) -> str:
        return options[int(self.rng.integers(len(options)))]

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def name(self, starts: tuple[str, ...], ends: tuple[str, ...]) -> str:
        """A two-syllable name, now and then one of three."""
        while True:
            middle = self.pick(ends) if self.rng.random() < 0.1 else ""
            name = self.pick(starts) + middle + self.pick(ends)
            if held_out(name) == self.evaluation:
                return name

    def person(self) -> str:
        lists = writing.names()
        return self.name(lists.person_starts, lists.person_ends)

    def place(self) -> str:
        lists = writing.names()
        return self.name(lists.place_starts, lists.place_ends)

    def villager(self) -> Villager:
        """A villager with a random subset of facts in random order."""
        count = int(self.rng.choice(4, p=WARE_COUNT_SHARES))
        wares = self.rng.choice(len(writing.names().wares), count, replace=False)
        sells = {writing.names().wares[int(index)]: self.number(2, 99) for index in wares}
        makers: dict[str, Callable[[], str]] = {
            "home": self.place,
            "kin": lambda: f"{self.pick(writing.KINDS_OF_KIN)} {self.person()}",
            "friend": self.person,
            "rival": self.person,
            "years": lambda: str(self.number(2, 99)),
            "rumour": lambda: f"{self.pick(writing.RUMOURS)} near {self.place()}",
            "lost": lambda: self.pick(writing.LOST_THINGS),
            "drink": lambda: self.pick(writing.DRINKS),
            "fear": lambda: self.pick(writing.FEARS),
            "saint": self.person,
            "road": lambda: f"{self.place()} {self.number(2, 9)}",
        }
        chosen = [key for key in makers if self.rng.random() < 0.7]
        facts = {key: makers[key]() for key in chosen}
        if "lost" in facts:
            facts["reward"] = str(self.number(2, 99))
        facts |= {f"sells {ware}": str(price) for ware, price in sells.items()}
        order = list(facts)
        self.rng.shuffle(order)
        sells = {key.removeprefix("sells "): sells[key.removeprefix("sells ")] for key in order if key.startswith("sells ")}
        mood = self.pick(writing.MOODS)
        return Villager(
            self.person(), self.pick(writing.TRADES), self.pick(writing.VOICES), mood, {key: facts[key] for key in order}, sells
        )
