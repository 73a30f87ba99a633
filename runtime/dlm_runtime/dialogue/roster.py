"""All characters of a world: a folder of YAML files."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path

from dlm_runtime.dialogue.character import Character, CharacterError, load_character
from dlm_runtime.errors import UnknownCharacter


class Roster:
    """Characters by id, in the order of their ids."""

    def __init__(self, characters: Iterable[Character]) -> None:
        """Raises `ValueError` when two characters share an id."""
        self._by_id: dict[str, Character] = {}
        for character in sorted(characters, key=lambda one: one.id):
            if character.id in self._by_id:
                raise ValueError(f"{character.id=} is used twice")
            self._by_id[character.id] = character

    @classmethod
    def load(cls, folder: Path) -> Roster:
        """Read every `*.yaml` of `folder`. Raises `CharacterError` when a file is wrong, an id comes twice or there is none."""
        if not folder.is_dir():
            raise CharacterError(folder, "folder", "not a folder", "give a folder with one YAML file per character")
        found: dict[str, tuple[Path, Character]] = {}
        for path in sorted(folder.glob("*.yaml")):
            character = load_character(path)
            if character.id in found:
                other = found[character.id][0]
                raise CharacterError(path, "id", f"{character.id!r} is already the id in {other.name}", "give each character its own id")
            found[character.id] = (path, character)
        if not found:
            raise CharacterError(folder, "folder", "holds no *.yaml file", "give a folder with one YAML file per character")
        return cls(character for _, character in found.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Character]:
        return iter(self._by_id.values())

    def get(self, character_id: str, field: str = "character_id") -> Character:
        """The character with this id. Raises `UnknownCharacter`, whose remedy names the closest ids."""
        character = self._by_id.get(character_id)
        if character is None:
            raise UnknownCharacter(field, character_id, self._suggest(character_id))
        return character

    def _suggest(self, character_id: str) -> str:
        close = difflib.get_close_matches(character_id.lower(), self._by_id, n=3, cutoff=0.5)
        if close:
            return f"did you mean {' or '.join(close)}?"
        return f"WorldService.ListCharacters lists all {len(self)} ids, {next(iter(self._by_id), 'none')} being the first"
