"""Which ids the tokenizer files give to a spelling, and which spellings they give to a role such as `mask_token`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint import Checkpoint
from ..errors import CheckpointError, shown

TOKENIZER_FILE = "tokenizer.json"
ADDED_FILE = "added_tokens.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
MAP_FILE = "special_tokens_map.json"
ROLES = ("mask_token", "eos_token", "pad_token", "bos_token")
SAVE_AGAIN = "Save the tokenizer again"


@dataclass(frozen=True)
class TokenFiles:
    """`ids`: file -> spelling -> id. `roles`: file -> role -> spelling. In the order in which they count; absent files are left out."""

    ids: Mapping[str, Mapping[str, int]]
    roles: Mapping[str, Mapping[str, str]]

    def id_of(self, spelling: str) -> int | None:
        """The id of a spelling, from the first file that knows it."""
        return next((table[spelling] for table in self.ids.values() if spelling in table), None)


def read_token_files(checkpoint: Checkpoint) -> TokenFiles:
    """Read the tokenizer files that are there. Raises CheckpointError with file and field for one that is malformed."""
    tokenizer, added = checkpoint.json(TOKENIZER_FILE), checkpoint.json(ADDED_FILE)
    config, special = checkpoint.json(TOKENIZER_CONFIG_FILE), checkpoint.json(MAP_FILE)
    ids: dict[str, Mapping[str, int]] = {}
    if tokenizer is not None:
        ids[TOKENIZER_FILE] = tokenizer_ids(checkpoint.path / TOKENIZER_FILE, tokenizer)
    if added is not None:
        ids[ADDED_FILE] = {spelling: token_id(checkpoint.path / ADDED_FILE, spelling, value) for spelling, value in added.items()}
    if config is not None:
        ids[TOKENIZER_CONFIG_FILE] = decoder_ids(checkpoint.path / TOKENIZER_CONFIG_FILE, config)
    roles = {
        name: role_spellings(checkpoint.path / name, fields)
        for name, fields in ((TOKENIZER_CONFIG_FILE, config), (MAP_FILE, special))
        if fields is not None
    }
    return TokenFiles(ids, roles)


def tokenizer_ids(file: Path, fields: Mapping[str, Any]) -> dict[str, int]:
    """Spelling -> id of tokenizer.json: the vocabulary where it is a table, and the added tokens, which go before it."""
    model = fields.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    table = {} if not isinstance(vocabulary, dict) else {key: value for key, value in vocabulary.items() if type(value) is int}
    entries = fields.get("added_tokens")
    if not isinstance(entries, list | None):
        raise CheckpointError(file, f"is {shown(entries)}, expected a list", SAVE_AGAIN, item="added_tokens")
    for entry in entries or []:
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str) or "id" not in entry:
            raise CheckpointError(file, f"has an entry without id or content: {shown(entry)}", SAVE_AGAIN, item="added_tokens")
        table[entry["content"]] = token_id(file, "added_tokens", entry["id"])
    return table


def decoder_ids(file: Path, fields: Mapping[str, Any]) -> dict[str, int]:
    """Spelling -> id of `added_tokens_decoder` (id as text -> {content}) in tokenizer_config.json."""
    decoder = fields.get("added_tokens_decoder")
    if not isinstance(decoder, dict | None):
        raise CheckpointError(file, f"is {shown(decoder)}, expected an object", SAVE_AGAIN, item="added_tokens_decoder")
    table: dict[str, int] = {}
    for key, value in (decoder or {}).items():
        content = value.get("content") if isinstance(value, dict) else value
        if not isinstance(content, str) or not (key.isascii() and key.isdecimal()):
            raise CheckpointError(file, f"has a malformed entry {shown({key: value})}", SAVE_AGAIN, item="added_tokens_decoder")
        table[content] = int(key)
    return table


def role_spellings(file: Path, fields: Mapping[str, Any]) -> dict[str, str]:
    """Role -> spelling, given as text or as {content}; null counts as absent."""
    found: dict[str, str] = {}
    for role in ROLES:
        value = fields.get(role)
        content = value.get("content") if isinstance(value, dict) else value
        if value is None:
            continue
        if not isinstance(content, str):
            raise CheckpointError(file, f"is {shown(value)}, expected a token's text", SAVE_AGAIN, item=role)
        found[role] = content
    return found


def token_id(file: Path, item: str, value: object) -> int:
    """A token id, whole and not negative; whether it is in the vocabulary is the caller's question."""
    if type(value) is not int or value < 0:
        raise CheckpointError(file, f"is {shown(value)}, expected a token id", SAVE_AGAIN, item=item)
    return value


def first_id(table: Mapping[str, int], spellings: Iterable[str]) -> tuple[str, int] | None:
    """The first of `spellings` that a table has, with its id."""
    return next(((spelling, table[spelling]) for spelling in spellings if spelling in table), None)
