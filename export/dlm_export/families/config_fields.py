"""Typed reads from config.json that name the file, the field and what was expected when it is not there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint import CONFIG_FILE, Checkpoint
from ..errors import CheckpointError, shown

REMEDY = "The config.json does not describe a checkpoint of this family"
LARGEST_INTEGER = 2**31 - 1
MOST_LAYERS = 10_000  # where layers are listed one by one: no model has as many, and billions would fill the memory
LARGEST_NUMBER = 3.4e38  # what float32 holds; NaN and infinity, which Python reads from JSON, fail the comparison


@dataclass(frozen=True)
class ConfigFields:
    """One JSON object of a config file."""

    file: Path
    values: Mapping[str, Any]
    prefix: str = ""

    def error(self, name: str, problem: str, remedy: str = REMEDY) -> CheckpointError:
        """The error to raise for a field."""
        return CheckpointError(self.file, problem, remedy, item=self.prefix + name)

    def integer(self, name: str, default: int | None = None, *, least: int = 0, most: int = LARGEST_INTEGER) -> int:
        """A whole number within bounds, those of 32 bits at most; required where there is no default. Null counts as absent."""
        value = self._value(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.error(name, f"is {shown(value)}, expected a whole number from {least} to {most}")
        return value

    def number(self, name: str, default: float | None = None, *, above: float | None = None) -> float:
        """A finite number, greater than `above` where that is given; required where there is no default. Null counts as absent."""
        value = self._value(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= LARGEST_NUMBER:
            raise self.error(name, f"is {shown(value)}, expected a number")
        if above is not None and value <= above:
            raise self.error(name, f"is {shown(value)}, expected a number above {above:g}")
        return float(value)

    def boolean(self, name: str, default: bool) -> bool:
        """True or false. Null counts as absent."""
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self.error(name, f"is {shown(value)}, expected true or false")
        return value

    def require(self, name: str, *allowed: object) -> None:
        """Refuse a field that has another value than the backbone computes; an absent or null field is fine."""
        value = self._value(name, allowed[0])
        if value not in allowed:
            known = " or ".join(repr(item) for item in allowed)
            raise self.error(name, f"is {shown(value)}, only {known} can be exported", "Support for it has to be written first")

    def items(self, name: str) -> list[Any]:
        """A list; empty where absent or null."""
        value = self._value(name, [])
        if not isinstance(value, list):
            raise self.error(name, f"is {shown(value)}, expected a list")
        return value

    def section(self, name: str) -> ConfigFields | None:
        """A nested object, or None where it is absent or null."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(name, f"is {shown(value)}, expected an object")
        return ConfigFields(self.file, value, f"{self.prefix}{name}.")

    def token_ids(self, name: str) -> tuple[int, ...]:
        """One token id or a list of them; empty where absent or null."""
        value = self.values.get(name)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        for item in ids:
            if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item <= LARGEST_INTEGER:
                raise self.error(name, f"is {shown(value)}, expected token ids")
        return tuple(ids)

    def _value(self, name: str, default: object) -> Any:
        value = self.values.get(name)
        return default if value is None else value


def config_fields(checkpoint: Checkpoint) -> ConfigFields:
    """config.json as typed fields."""
    return ConfigFields(checkpoint.path / CONFIG_FILE, checkpoint.config)
