"""What a checkpoint says about text: tokenizer.json, the chat template, and which ids are control tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tokenizers import Tokenizer

from .checkpoint import Checkpoint
from .errors import CheckpointError
from .families.token_files import MAP_FILE, SAVE_AGAIN, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE
from .template_trial import template_problem
from .template_variables import Value, with_variables

TEMPLATE_FILE = "chat_template.jinja"
OTHER_MODEL = "This tokenizer is of another model"
TOKEN_VARIABLES = ("bos_token", "eos_token", "pad_token", "unk_token", "mask_token", "cls_token", "sep_token")
NO_VARIABLES: Mapping[str, Value] = MappingProxyType({})


@dataclass(frozen=True)
class TokenizerFiles:
    """`tokenizer_json` is the file's text, None for a checkpoint without one. `control_ids` are its special tokens.

    `notes` are sentences for whoever exports.
    """

    tokenizer_json: str | None
    chat_template: str | None
    control_ids: tuple[int, ...]
    notes: tuple[str, ...] = ()


def read_tokenizer_files(checkpoint: Checkpoint, vocab_size: int, variables: Mapping[str, Value] = NO_VARIABLES) -> TokenizerFiles:
    """Read what is there; `variables` are settings that a family's chat template is to be rendered with, such as `enable_thinking`.

    Raises CheckpointError for a file that is malformed or has ids beyond the model's vocabulary. A chat template that cannot be rendered
    is noted, no error: the bundle can still be given token ids.
    """
    tokenizer = checkpoint.json(TOKENIZER_FILE)
    text = checkpoint.text(TOKENIZER_FILE)
    control_ids = special_ids(checkpoint, tokenizer, vocab_size) if tokenizer is not None else ()
    if text is not None:
        check_tokenizer(checkpoint, text, vocab_size)
    template = chat_template(checkpoint)
    if template is None:
        return TokenizerFiles(text, None, control_ids)
    template = with_variables(template, {"tools": None, "documents": None, **token_variables(checkpoint), **variables})
    if any("\ud800" <= character <= "\udfff" for character in template):  # which JSON can spell, but no UTF-8 file can hold
        raise CheckpointError(
            checkpoint.path / TOKENIZER_CONFIG_FILE, "holds half of a surrogate pair, which is no text", SAVE_AGAIN, item="chat_template"
        )
    problem = template_problem(template)
    if problem is None:
        return TokenizerFiles(text, template, control_ids)
    note = f"The chat template cannot be used and is left out, so prompts have to be assembled by the caller: {problem}"
    return TokenizerFiles(text, None, control_ids, (note,))


def check_tokenizer(checkpoint: Checkpoint, text: str, vocab_size: int) -> None:
    """Load tokenizer.json once with the library that will encode with it."""
    file = checkpoint.path / TOKENIZER_FILE
    try:
        vocabulary = Tokenizer.from_str(text).get_vocab()
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(file, f"is no tokenizer that can be loaded ({error})", SAVE_AGAIN) from error
    largest = max(vocabulary.values(), default=-1)
    if largest >= vocab_size:
        raise CheckpointError(file, f"holds id {largest}, the model has {vocab_size}", OTHER_MODEL, item="model")


def special_ids(checkpoint: Checkpoint, tokenizer: dict[str, Any], vocab_size: int) -> tuple[int, ...]:
    """Ids of the added tokens marked special, sorted."""
    try:
        added = [(int(token["id"]), bool(token["special"])) for token in tokenizer.get("added_tokens") or []]
    except (KeyError, TypeError, ValueError) as error:
        problem = f"has an entry without id or special ({error!r})"
        raise CheckpointError(checkpoint.path / TOKENIZER_FILE, problem, SAVE_AGAIN, item="added_tokens") from error
    for token_id, _ in added:
        if not 0 <= token_id < vocab_size:
            problem = f"holds id {token_id}, the model has {vocab_size}"
            raise CheckpointError(checkpoint.path / TOKENIZER_FILE, problem, OTHER_MODEL, item="added_tokens")
    return tuple(sorted(token_id for token_id, special in added if special))


def chat_template(checkpoint: Checkpoint) -> str | None:
    """The Jinja chat template: a file of its own, else the one in tokenizer_config.json (the `default` one of several)."""
    text = checkpoint.text(TEMPLATE_FILE)
    if text is not None:
        return text
    template = (checkpoint.json(TOKENIZER_CONFIG_FILE) or {}).get("chat_template")
    if isinstance(template, list):
        template = next((entry.get("template") for entry in template if isinstance(entry, dict) and entry.get("name") == "default"), None)
    if template is None or isinstance(template, str):
        return template
    problem = f"is {json.dumps(template)[:60]}, expected text"
    raise CheckpointError(checkpoint.path / TOKENIZER_CONFIG_FILE, problem, SAVE_AGAIN, item="chat_template")


def token_variables(checkpoint: Checkpoint) -> dict[str, str]:
    """The special tokens by the names that chat templates have for them; tokenizer_config.json goes before special_tokens_map.json."""
    found: dict[str, str] = {}
    for name in (MAP_FILE, TOKENIZER_CONFIG_FILE):
        fields = checkpoint.json(name) or {}
        for variable in TOKEN_VARIABLES:
            value = fields.get(variable)
            content = value.get("content") if isinstance(value, dict) else value
            if isinstance(content, str):
                found[variable] = content
    return found
