"""Character files: the card that they give, and errors that name file, field and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from dlm_runtime.dialogue.character import CharacterError, load_character
from dlm_runtime.dialogue.roster import Roster
from dlm_runtime.errors import UnknownCharacter

GOOD = """
id: torvek
name: Torvek
trade: smith
voice: gruff
facts:
  home: Kelmar
  sells:
    rope: 7
    "wax candle": 12
  years: 14
  rumour: wolves near Daskel
"""


def write(folder: Path, text: str, name: str = "torvek.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_card_follows_the_order_of_the_file(tmp_path: Path) -> None:
    card = load_character(write(tmp_path, GOOD)).card
    assert card.splitlines() == [
        "name: Torvek",
        "trade: smith",
        "voice: gruff",
        "home: Kelmar",
        "sells rope: 7",
        "sells wax candle: 12",
        "years: 14",
        "rumour: wolves near Daskel",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: Torvek", "id: missing: add a line `id: ...`"),
        ("id: torvek", "name: missing: add a line `name: ...`"),
        ("id: Torvek\nname: T", "id: 'Torvek' is not an id: use 1 to 64 characters out of a-z 0-9 _ -"),
        ("id: t\nname: T\nhome: Kelmar", "home: unknown key: remove it, or move it below `facts:`"),
        ("id: t\nname: 7", "name: 7 is a number: put it in quotes"),
        ("id: t\nname: T\nfacts: [a]", "facts: ['a'] is not a group of `key: value` lines: indent the facts below `facts:`"),
        ("id: t\nname: T\nfacts:\n  drink: yes", "facts.drink: True is a truth value: put the word in quotes"),
        ("id: t\nname: T\nfacts:\n  drink:", "facts.drink: None is neither text nor a number: write one value per key"),
        ("id: t\nname: ' '", "name: the value is empty: write something or remove the key"),
        ("id: t\nname: T\nfacts:\n  'a: b': c", "facts: the key 'a: b' cannot be used: begin with a letter"),
        ("id: t\n name: T", "line 2: not YAML (mapping values are not allowed here): correct the line"),
        ("id: t\nname: T\nname: U", "line 3: not YAML (the key 'name' comes twice): correct the line"),
        ("id: t\nname: T\nfacts:\n  since: 2024-13-45", "file: a value cannot be read (month must be in 1..12): put it in quotes"),
        ("id: t\nname: T\nfacts:\n  years: .nan", "facts.years: nan is no number that can be said: put the word in quotes"),
        ("id: t\nname: T\nfacts: " + "[" * 500, "file: a value cannot be read (maximum recursion depth exceeded"),
        ("id: t\nname: \0", "file: not YAML (special characters are not allowed): correct the line"),
        ("- id", "file: the file is not a group of `key: value` lines: begin with `id:` and `name:`"),
        ("", "file: the file is not a group of `key: value` lines: begin with `id:` and `name:`"),
    ],
)
def test_errors_name_file_field_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(CharacterError) as caught:
        load_character(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"id: t\nname: \xff")
    with pytest.raises(CharacterError, match="byte 12 is not UTF-8: save the file as UTF-8"):
        load_character(path)


def test_a_roster_is_sorted_by_id_and_suggests(tmp_path: Path) -> None:
    write(tmp_path, "id: vanmi\nname: Vanmi", "a.yaml")
    write(tmp_path, GOOD, "b.yaml")
    roster = Roster.load(tmp_path)
    assert [character.id for character in roster] == ["torvek", "vanmi"]
    with pytest.raises(UnknownCharacter, match=r"did you mean torvek\?"):
        roster.get("Torwek")
    with pytest.raises(UnknownCharacter, match="lists all 2 ids"):
        roster.get("qqq")


def test_an_id_used_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "a.yaml")
    write(tmp_path, GOOD, "b.yaml")
    with pytest.raises(CharacterError, match=r"b\.yaml: id: 'torvek' is already the id in a\.yaml"):
        Roster.load(tmp_path)


def test_a_folder_without_characters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CharacterError, match=r"holds no \*\.yaml file"):
        Roster.load(tmp_path)
    with pytest.raises(CharacterError, match="not a folder"):
        Roster.load(tmp_path / "nowhere")
