"""Typed reads from config.json that name the file, the field and what was expected when it is not there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

REMEDY = "The config.json does not describe a checkpoint of this family"


@dataclass(frozen=True)
class ConfigFields:
    """One JSON object of a config file."""

    file: Path
    values: Mapping[str, Any]
    prefix: str = ""

    def error(self, name: str, problem: str, remedy: str = REMEDY) -> CheckpointError:
        """The error to raise for a field."""
        return CheckpointError(self.file, problem, remedy, item=self.prefix + name)

    def integer(self, name: str, default: int | None = None, *, least: int = 0) -> int:
        """A whole number of at least `least`; required where there is no default."""
        value = self.values.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.error(name, f"is {value!r}, expected a whole number of at least {least}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number; required where there is no default."""
        value = self.values.get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.error(name, f"is {value!r}, expected a number")
        return float(value)

    def require(self, name: str, *allowed: object) -> None:
        """Refuse a field that has another value than the backbone computes; an absent field is fine."""
        value = self.values.get(name, allowed[0])
        if value not in allowed:
            known = " or ".join(repr(item) for item in allowed)
            raise self.error(name, f"is {value!r}, only {known} can be exported", "Support for it has to be written first")

    def section(self, name: str) -> ConfigFields | None:
        """A nested object, or None where it is absent or null."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(name, f"is {value!r}, expected an object")
        return ConfigFields(self.file, value, f"{self.prefix}{name}.")

    def token_ids(self, name: str) -> tuple[int, ...]:
        """One token id or a list of them; empty where absent or null."""
        value = self.values.get(name)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        for item in ids:
            if not isinstance(item, int) or isinstance(item, bool) or item < 0:
                raise self.error(name, f"is {value!r}, expected token ids")
        return tuple(ids)
