"""What a player says to a villager and what the villager answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tavern_model import writing
from tavern_model.world import Villager

HARD_INTENT_WEIGHTS = {"price": 3, "buy": 3, "wares": 2, "lost": 2, "fear": 2, "years": 2}  # the others weigh 1

OPENERS = ("Hello,", "Excuse me,", "Friend,", "Please,", "So,", "Tell me,", "Well,", "Good evening.", "Now then,")
NOBODY_SELLS = (
    *("sword", "shield", "horse", "crown", "potion", "spell book", "castle", "ship", "dragon", "armour", "bow", "arrow", "spear"),
    *("gold ring", "diamond", "treasure map", "magic wand", "cat", "dog", "cow", "house", "bread", "beer", "meat", "fish", "egg"),
)  # asked for, and always refused


@dataclass(frozen=True)
class Exchange:
    """One question and its answer. `slots` are the facts that the answer must contain; empty when it needs none or lacks them."""

    intent: str
    player: str
    reply: str
    slots: dict[str, str]
    known: bool


class Dialogue:
    """Draws exchanges with one villager."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def pick(self, options):
        return options[int(self.rng.integers(len(options)))]

    def exchange(self, villager: Villager, intent: writing.Intent | None = None) -> Exchange:
        """A question of `intent` (drawn when None) and the villager's answer in his voice and mood."""
        intent = intent or self.draw_intent(villager)
        slots = villager.slots()
        if "ware" in intent.needs:
            slots |= self._ware(villager)
        known = all(need in slots for need in intent.needs)
        player = self._rough(self.pick(intent.asks).format_map(slots))
        if not known:
            return Exchange(intent.name, player, intent.unknown[villager.voice], {}, known=False)
        reply = self.pick(self.replies(intent, villager)).format_map(slots)
        return Exchange(intent.name, player, reply, {need: slots[need] for need in intent.needs}, known=True)

    def draw_intent(self, villager: Villager) -> writing.Intent:
        """Any intent; those about facts the card holds are drawn more often than those it lacks."""
        slots = villager.slots()
        intents = list(writing.intents().values())
        weights = np.array([HARD_INTENT_WEIGHTS.get(intent.name, 1) for intent in intents])
        while True:
            intent = intents[int(self.rng.choice(len(intents), p=weights / weights.sum()))]
            if intent.name == "wares" and len(villager.sells) == 1:
                continue  # the authored answers name two wares
            lacking = any(need not in slots and need not in ("ware", "price") for need in intent.needs)
            if not lacking or self.rng.random() < 0.25:
                return intent

    def _ware(self, villager: Villager) -> dict[str, str]:
        if villager.sells and self.rng.random() < 0.9:
            ware = self.pick(list(villager.sells))
            return {"ware": ware, "price": str(villager.sells[ware])}
        others = [ware for ware in (*writing.names().wares, *NOBODY_SELLS) if ware not in villager.sells]
        return {"ware": self.pick(others)}

    def replies(self, intent: writing.Intent, villager: Villager) -> list[str]:
        """The templates written for this intent, voice and mood."""
        options = intent.replies[villager.voice]
        if villager.mood in options:
            return [options[villager.mood]]
        tail = ""
        if intent.name in writing.INTENTS_WITH_TAIL and villager.mood != "calm":
            tail = " " + writing.tails()[villager.voice][villager.mood]
        return [text + tail for text in options.values()]

    def _rough(self, text: str) -> str:
        """Players do not always care for capitals and full stops, and some are polite."""
        if self.rng.random() < 0.08:
            text = f"{self.pick(OPENERS)} {text}"
        if self.rng.random() < 0.15:
            text = text.lower()
        return text.rstrip(".?!") if self.rng.random() < 0.15 else text
