"""From token ids to the text a character speaks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dlm_runtime.dialogue.text import clean_line

_SENTENCE_END = re.compile(r"[.!?…。！？]+[\"'”’)]*(?=\s|$)")


@dataclass(frozen=True, slots=True)
class SpokenText:
    """What is said. `was_cut`: it was longer than allowed. `is_fallback`: the model said nothing."""

    text: str
    was_cut: bool = False
    is_fallback: bool = False


def finish_text(decoded: str, max_chars: int = 0, fallback_text: str = "") -> SpokenText:
    """Clean a decoded line, cut it to `max_chars` (0: no limit) and put the fallback in place of nothing.

    The cut comes after the last whole sentence that fits, else after the last whole word, else in mid word. The fallback is authored
    and stays whole.
    """
    text = clean_line(decoded)
    if not text:
        return SpokenText(fallback_text, is_fallback=True)
    if max_chars < 1 or len(text) <= max_chars:
        return SpokenText(text)
    return SpokenText(_cut(text, max_chars), was_cut=True)


def _cut(text: str, max_chars: int) -> str:
    ends = [match.end() for match in _SENTENCE_END.finditer(text) if match.end() <= max_chars]
    if ends:
        return text[: ends[-1]]
    if text[max_chars].isspace():
        return text[:max_chars].rstrip()
    whole_words = text[: max(0, text.rfind(" ", 0, max_chars))].rstrip(" ,;:")
    return whole_words or text[:max_chars]
