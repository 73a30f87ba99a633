"""What a checkpoint says about text: tokenizer.json, the chat template, and which ids are control tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .checkpoint import Checkpoint
from .errors import CheckpointError

TOKENIZER_FILE = "tokenizer.json"
TEMPLATE_FILE = "chat_template.jinja"
CONFIG_FILE = "tokenizer_config.json"


@dataclass(frozen=True)
class TokenizerFiles:
    """`tokenizer_json` is the file's text, None for a checkpoint without one. `control_ids` are its special tokens."""

    tokenizer_json: str | None
    chat_template: str | None
    control_ids: tuple[int, ...]


def read_tokenizer_files(checkpoint: Checkpoint, vocab_size: int) -> TokenizerFiles:
    """Read what is there. Raises CheckpointError for a file that is malformed or has ids beyond the model's vocabulary."""
    tokenizer = checkpoint.json(TOKENIZER_FILE)
    control_ids = special_ids(checkpoint, tokenizer, vocab_size) if tokenizer is not None else ()
    return TokenizerFiles(checkpoint.text(TOKENIZER_FILE), chat_template(checkpoint), control_ids)


def special_ids(checkpoint: Checkpoint, tokenizer: dict[str, Any], vocab_size: int) -> tuple[int, ...]:
    """Ids of the added tokens marked special, sorted."""
    try:
        added = [(int(token["id"]), bool(token["special"])) for token in tokenizer.get("added_tokens") or []]
    except (KeyError, TypeError, ValueError) as error:
        problem = f"has an entry without id or special ({error!r})"
        raise CheckpointError(checkpoint.path / TOKENIZER_FILE, problem, "Save the tokenizer again", item="added_tokens") from error
    for token_id, _ in added:
        if not 0 <= token_id < vocab_size:
            problem = f"holds id {token_id}, the model has {vocab_size}"
            raise CheckpointError(checkpoint.path / TOKENIZER_FILE, problem, "This tokenizer is of another model", item="added_tokens")
    return tuple(sorted(token_id for token_id, special in added if special))


def chat_template(checkpoint: Checkpoint) -> str | None:
    """The Jinja chat template: a file of its own, else the one in tokenizer_config.json (the `default` one of several)."""
    text = checkpoint.text(TEMPLATE_FILE)
    if text is not None:
        return text
    template = (checkpoint.json(CONFIG_FILE) or {}).get("chat_template")
    if isinstance(template, list):
        template = next((entry.get("template") for entry in template if isinstance(entry, dict) and entry.get("name") == "default"), None)
    if template is None or isinstance(template, str):
        return template
    problem = f"is {json.dumps(template)[:60]}, expected text"
    raise CheckpointError(checkpoint.path / CONFIG_FILE, problem, "Save the tokenizer again", item="chat_template")
