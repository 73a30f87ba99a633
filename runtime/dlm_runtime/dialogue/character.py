"""A character: a YAML file that a writer edits, and the card text that the model reads."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from dlm_runtime.dialogue.text import clean_line
from dlm_runtime.errors import DlmError

_ID = re.compile(r"[a-z0-9_-]{1,64}")
_KEY = re.compile(r"[^\W_][\w ,'-]{0,63}")
MAX_FILE_BYTES = 64 * 1024
MAX_VALUE_CHARS = 400


class CharacterError(DlmError):
    """A character file cannot be used. The message reads `file: field: what is wrong: remedy`."""

    def __init__(self, path: Path, field: str, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {field}: {problem}: {remedy}")
        self.path, self.field, self.problem, self.remedy = path, field, problem, remedy


def _check_id(value: object) -> object:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError(f"{value!r} is not an id: use 1 to 64 characters out of a-z 0-9 _ -")
    return value


def _check_value(value: object) -> str | int | float:
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is a truth value: put the word in quotes")
    if isinstance(value, int | float):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{value!r} is no number that can be said: put the word in quotes")
        return value
    if not isinstance(value, str):
        raise ValueError(f"{reprlib.repr(value)} is neither text nor a number: write one value per key")
    if not clean_line(value):
        raise ValueError("the value is empty: write something or remove the key")
    if len(value) > MAX_VALUE_CHARS:
        raise ValueError(f"{len(value)} characters are too many: keep it within {MAX_VALUE_CHARS}")
    return value


def _check_text(value: object) -> str | int | float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"{value!r} is a number: put it in quotes")
    return _check_value(value)


def _check_fact(value: object) -> object:
    if not isinstance(value, Mapping):
        return _check_value(value)
    if not value:
        raise ValueError("the group is empty: write something or remove the key")
    return {_check_key(key): _check_value(item) for key, item in value.items()}


def _check_facts(value: object) -> object:
    if not isinstance(value, Mapping):
        raise ValueError(f"{reprlib.repr(value)} is not a group of `key: value` lines: indent the facts below `facts:`")
    return {_check_key(key): item for key, item in value.items()}


def _check_key(key: object) -> str:
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ValueError(f"the key {key!r} cannot be used: begin with a letter or digit and use letters, digits, spaces and ,'-_")
    return key


Text = Annotated[str, BeforeValidator(_check_text)]
Fact = Annotated[str | int | float | dict[str, str | int | float], BeforeValidator(_check_fact)]


class Character(BaseModel):
    """What a writer says about a character. Only `id` and `name` are required; everything but the id appears on the card."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Annotated[str, BeforeValidator(_check_id)]
    name: Text
    trade: Text = ""
    voice: Text = ""
    mood: Text = ""
    facts: Annotated[dict[str, Fact], BeforeValidator(_check_facts)] = Field(default_factory=dict)
    key_order: tuple[str, ...] = Field(default=(), exclude=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _remember_order(cls, data: Any) -> Any:
        """Keep the order of the file's keys: the card follows it."""
        if not isinstance(data, Mapping):
            raise ValueError("the file is not a group of `key: value` lines: begin with `id:` and `name:`")
        return {**data, "key_order": tuple(key for key in data if isinstance(key, str))}

    @property
    def card(self) -> str:
        """The card as the model reads it: one `key: value` per line; a group `sells: {rope: 7}` gives `sells rope: 7`."""
        lines: list[str] = []
        for key in self.key_order:
            if key == "facts":
                lines.extend(line for fact, value in self.facts.items() for line in _fact_lines(fact, value))
            elif key in ("name", "trade", "voice", "mood"):
                lines.append(f"{key}: {clean_line(getattr(self, key))}")
        return "\n".join(lines)


class _Loader(yaml.SafeLoader):
    """Plain YAML without its trap: of two equal keys in a group the first would vanish without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A group as a dictionary. Raises `ConstructorError` at the second of two equal keys."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} comes twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _fact_lines(key: str, value: object) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{key} {part}: {clean_line(str(item))}" for part, item in value.items()]
    return [f"{key}: {clean_line(str(value))}"]


def load_character(path: Path) -> Character:
    """Read one character file. Raises `CharacterError` naming the file, the field and the remedy."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise CharacterError(path, "file", f"larger than {MAX_FILE_BYTES} bytes", "move what is not about this character elsewhere")
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise CharacterError(path, "file", f"cannot be read ({error.strerror})", "check its name and permissions") from error
    except UnicodeDecodeError as error:
        raise CharacterError(path, "file", f"byte {error.start} is not UTF-8", "save the file as UTF-8") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        field = f"line {where.line + 1}" if where is not None else "file"
        problem = f"not YAML ({getattr(error, 'problem', None) or getattr(error, 'reason', error)})"
        raise CharacterError(path, field, problem, "correct the line; put text that holds a `:` in quotes") from error
    except (ValueError, RecursionError) as error:  # 2024-13-45 is no date, though it looks like one
        raise CharacterError(path, "file", f"a value cannot be read ({error})", "put it in quotes, or make it simpler") from error
    try:
        return Character.model_validate(data)
    except ValidationError as error:
        raise _from_validation(path, error) from error


def _from_validation(path: Path, error: ValidationError) -> CharacterError:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "file"
    if first["type"] == "missing":
        return CharacterError(path, field, "missing", f"add a line `{field}: ...`")
    if first["type"] == "extra_forbidden":
        return CharacterError(path, field, "unknown key", "remove it, or move it below `facts:`")
    problem, _, remedy = first["msg"].removeprefix("Value error, ").partition(": ")
    return CharacterError(path, field, problem, remedy or "correct the value")
