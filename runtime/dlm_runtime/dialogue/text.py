"""Cleaning of text that comes from outside: one line, no control characters, one form per character."""

from __future__ import annotations

import unicodedata

_JOINERS = {"\u200c", "\u200d"}  # format characters that carry meaning in scripts and emoji
_DROPPED = {"Cc", "Cf", "Cs", "Co", "Cn"}
_SPACES = {"Zs", "Zl", "Zp"}


def clean_line(text: str) -> str:
    """`text` in NFC on one line: white space and line breaks become single spaces, control characters go, ends are trimmed.

    A card is made of lines, so a line break in a player's words could otherwise pass for a line of the card.
    """
    kept = "".join(_clean_char(char) for char in text)
    return " ".join(unicodedata.normalize("NFC", kept).split())  # composed last, over what stood between; cleaning again changes nothing


def _clean_char(char: str) -> str:
    if char.isascii() and char.isprintable():
        return char
    category = unicodedata.category(char)
    if category in _SPACES or char.isspace():
        return " "
    if category in _DROPPED and char not in _JOINERS:
        return ""
    return char
