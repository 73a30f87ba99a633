"""The tokenizer of a bundle, with a wall between template text and content.

Only template text may turn into control tokens. Content (a card, a player's words, an earlier line) is data: `<|end|>` typed by a player
becomes the ordinary tokens of those seven characters.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from dlm_runtime.errors import BundleError

_CACHED_TEXTS = 1024
_CACHED_CHARS = 1024  # a flood of long texts shall not fill the memory


class Tokens:
    """Encodes and decodes text. Safe to share between threads once built."""

    def __init__(self, tokenizer_json: str) -> None:
        """Build from the text of a `tokenizer.json`. Raises `ValueError` when it is not one."""
        spec = _parse(tokenizer_json)
        self.control_ids: frozenset[int] = frozenset(int(token["id"]) for token in spec.get("added_tokens") or [])
        self._template = Tokenizer.from_str(json.dumps(spec))
        self._content = Tokenizer.from_str(json.dumps(_all_special(spec)))
        self._content.encode_special_tokens = True  # "encode them as text": special tokens in content lose their meaning
        self._template.no_padding()
        self._template.no_truncation()
        self._content.no_padding()
        self._content.no_truncation()
        self._encode_content = lru_cache(maxsize=_CACHED_TEXTS)(self._encode_content_uncached)

    @classmethod
    def from_file(cls, path: Path) -> Tokens:
        """Read a `tokenizer.json`. Raises `BundleError` naming the file when it cannot be read."""
        try:
            return cls(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BundleError(path, f"not a readable tokenizer.json ({error})", "Export the bundle anew with `dlm-export`.") from error

    @property
    def vocab_size(self) -> int:
        """Number of ids, added tokens included."""
        return self._template.get_vocab_size(with_added_tokens=True)

    def to_json(self) -> str:
        """The tokenizer as the text of a `tokenizer.json`."""
        return self._template.to_str()

    def encode_template(self, text: str) -> tuple[int, ...]:
        """Ids of template text, in which control tokens are control tokens."""
        return tuple(self._template.encode(text, add_special_tokens=False).ids)

    def encode_content(self, text: str) -> tuple[int, ...]:
        """Ids of content, none of which is a control token. Short ones are cached, since cards and history come again with every line."""
        return (self._encode_content if len(text) <= _CACHED_CHARS else self._encode_content_uncached)(text)

    def decode(self, ids: list[int] | tuple[int, ...]) -> str:
        """Text of `ids`; control tokens leave no trace."""
        return self._template.decode(list(ids), skip_special_tokens=True)

    def _encode_content_uncached(self, text: str) -> tuple[int, ...]:
        ids: list[int] = self._content.encode(text, add_special_tokens=False).ids
        if self.control_ids.isdisjoint(ids):
            return tuple(ids)
        # A vocabulary that spells a control token as one ordinary piece: take the text apart, and drop what still is one.
        single = [token for char in text for token in self._content.encode(char, add_special_tokens=False).ids]
        return tuple(token for token in single if token not in self.control_ids)


def _parse(tokenizer_json: str) -> dict[str, Any]:
    try:
        Tokenizer.from_str(tokenizer_json)
    except Exception as error:  # the library raises bare Exception
        raise ValueError(str(error)) from error
    return json.loads(tokenizer_json)


def _all_special(spec: dict[str, Any]) -> dict[str, Any]:
    """The same tokenizer with every added token marked special, since only special ones can be switched off."""
    added = [{**token, "special": True} for token in spec.get("added_tokens") or []]
    return {**spec, "added_tokens": added}
