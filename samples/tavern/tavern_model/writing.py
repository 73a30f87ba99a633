"""The authored text of the tavern, read from YAML: intents, tales, mood tails, name syllables and wares."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

FOLDER = Path(__file__).resolve().parents[1]

VOICES = ("gruff", "merry", "courtly", "sly", "pious", "weary")
MOODS = ("calm", "cheerful", "worried", "angry")
TRADES = (
    *("innkeeper", "smith", "baker", "brewer", "hunter", "fisher", "miller", "weaver", "tailor", "carter", "guard", "herbalist"),
    *("minstrel", "merchant", "priest", "scribe", "farmer", "potter", "tanner", "cooper", "mason", "ferryman", "healer", "stablehand"),
)
KINDS_OF_KIN = ("brother", "sister", "mother", "father", "uncle", "aunt", "cousin", "son", "daughter", "nephew", "niece")
RUMOURS = (
    *("wolves", "bandits", "ghosts", "lights", "goblins", "strangers"),
    *("soldiers", "rats", "giants", "pilgrims", "witches", "smugglers"),
)
LOST_THINGS = ("ring", "lantern", "ledger", "locket", "dagger", "flute", "map", "key", "compass", "goat", "cloak", "hammer")
DRINKS = ("cider", "ale", "mead", "stout", "perry", "wine", "milk", "cordial")
FEARS = ("spiders", "storms", "wells", "mirrors", "crows", "fire", "deep water", "the dark", "geese", "thunder", "moths", "fever")

INTENTS_WITH_TAIL = frozenset({"greet", "farewell", "thanks", "weather", "home", "trade", "name"})


@dataclass(frozen=True)
class Intent:
    """One thing a player may say and the answers to it: `replies[voice]` maps a variant (or, for `mood`, a mood) to a template."""

    name: str
    needs: tuple[str, ...]
    asks: tuple[str, ...]
    replies: dict[str, dict[str, str]]
    unknown: dict[str, str]


@dataclass(frozen=True)
class Names:
    """Syllables of invented names, and the wares of the village."""

    person_starts: tuple[str, ...]
    person_ends: tuple[str, ...]
    place_starts: tuple[str, ...]
    place_ends: tuple[str, ...]
    wares: tuple[str, ...]


def _read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _intent(data: dict) -> Intent:
    replies = {
        voice: options if isinstance(options, dict) else {str(index): text for index, text in enumerate(options)}
        for voice, options in data["reply"].items()
    }
    return Intent(data["intent"], tuple(data["needs"]), tuple(data["ask"]), replies, data.get("unknown") or {})


@cache
def intents() -> dict[str, Intent]:
    """Every intent by name, tales included."""
    paths = [*sorted((FOLDER / "corpus" / "intents").glob("*.yaml")), FOLDER / "corpus" / "tales.yaml"]
    loaded = (_intent(_read(path)) for path in paths)
    return {intent.name: intent for intent in loaded}


@cache
def tails() -> dict[str, dict[str, str]]:
    """`tails()[voice][mood]`: the short second sentence that a mood adds."""
    return _read(FOLDER / "corpus" / "tails.yaml")


@cache
def names() -> Names:
    """The syllable and ware lists of names.yaml."""
    return Names(**{key: tuple(str(item) for item in values) for key, values in _read(FOLDER / "names.yaml").items()})
