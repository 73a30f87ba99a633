"""Parameters of a recorded run, read one by one, so that none is overlooked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeGuard

from dlm_runtime.bundle import Manifest

from ...errors import ExportError, shown
from .prepared import Ids, RecordedRun

LARGEST_COUNT = 2**16  # of tokens, steps and the like; a canvas is laid out at once
LARGEST_ID = 2**31 - 1
LARGEST_NUMBER = 3.4e38  # of float32


class UnsupportedRun(ExportError):
    """A run that nothing here can follow; names the parameter, its value and what can be."""

    def __init__(self, name: str, value: object, supported: str) -> None:
        super().__init__(f"{name}={shown(value)} is not supported; {supported}")
        self.name = name
        self.value = value


class UnknownSampler(ExportError):
    """No sampler of that name; lists those that are known."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"no sampler is called {name!r}. Known ones are {', '.join(known)}")
        self.name = name
        self.known = known


class Parameters:
    """The arguments of a loop. `finish` refuses a run with arguments that were never asked for, as they may matter."""

    def __init__(self, run: RecordedRun) -> None:
        self.values, self.prompts = run.params, run.prompt_ids
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or the reference's default where it is not recorded."""
        self.asked.add(name)
        return self.values.get(name, default)

    def number(self, name: str, default: float | None = None) -> float:
        """A number that has to be there unless the reference has a default."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UnsupportedRun(name, value, "a number is needed")
        if math.isnan(value) or abs(value) > LARGEST_NUMBER:
            raise UnsupportedRun(name, value, "a finite number of float32 is needed")
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number of at least 0."""
        value = self.get(name, default)
        if not is_id(value):
            raise UnsupportedRun(name, value, f"a whole number from 0 to {LARGEST_ID} is needed")
        return value

    def positive(self, name: str, default: int | None = None) -> int:
        """A whole number of at least 1, of something that is laid out or done that many times."""
        value = self.get(name, default)
        if not is_id(value) or not 1 <= value <= LARGEST_COUNT:
            raise UnsupportedRun(name, value, f"a whole number from 1 to {LARGEST_COUNT} is needed")
        return value

    def optional_number(self, name: str, default: float | None = None) -> float | None:
        """A number, or None."""
        return None if self.get(name, default) is None else self.number(name, default)

    def optional_integer(self, name: str, default: int | None = None) -> int | None:
        """A whole number of at least 0, or None."""
        return None if self.get(name, default) is None else self.integer(name, default)

    def prompt_lengths(self) -> list[int]:
        """How much of every row of `prompt_ids` is prompt; whole rows where it is not recorded."""
        value = self.get("prompt_lengths")
        rows = self.prompts
        if value is None or value == []:
            return [len(row) for row in rows]
        if not isinstance(value, list) or len(value) != len(rows) or not all(map(is_length, value, rows)):
            raise UnsupportedRun("prompt_lengths", value, "a length for every row of prompt_ids is needed, from 1 to that of the row")
        return value

    def choice(self, name: str, default: str | None, choices: Iterable[str | None]) -> Any:
        """One of `choices`."""
        value = self.get(name, default)
        if value not in (known := list(choices)):
            raise UnsupportedRun(name, value, f"known are {', '.join(map(str, known))}")
        return value

    def ids(self, name: str, below: int = LARGEST_ID + 1) -> tuple[int, ...]:
        """Token ids, none where the argument is missing or null."""
        value = self.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(is_id(item) and item < below for item in value):
            raise UnsupportedRun(name, value, f"a list of token ids from 0 to {below - 1} is needed")
        return tuple(value)

    def only(self, name: str, *values: object, why: str) -> None:
        """Refuses every other value; the first is the default."""
        if (value := self.get(name, values[0])) not in values:
            raise UnsupportedRun(name, value, why)

    def ignore(self, *names: str) -> None:
        """Arguments that change nothing that is compared."""
        self.asked.update(names)

    def mask(self, name: str, manifest: Manifest) -> int:
        """The mask token, which has to be the bundle's: it is part of the graph."""
        value = self.get(name, manifest.mask_token_id)
        if value != manifest.mask_token_id or value is None:
            raise UnsupportedRun(name, value, f"the bundle's mask is {manifest.mask_token_id}, and it is part of its graph")
        return value

    def finish(self) -> None:
        """Raises UnsupportedRun for the first argument that nobody asked for and that is neither null nor off."""
        for name, value in self.values.items():
            if name not in self.asked and value not in (None, False, [], {}):
                raise UnsupportedRun(name, value, f"known parameters are {', '.join(sorted(self.asked))}")


def is_id(value: object) -> TypeGuard[int]:
    """Whether something is a whole number of at least 0 that fits 32 bits."""
    return type(value) is int and 0 <= value <= LARGEST_ID


def is_length(value: object, row: Ids) -> bool:
    """Whether something is a length that a row can be cut to."""
    return is_id(value) and 1 <= value <= len(row)


def recorded_calls(run: RecordedRun, *names: str) -> list[dict[str, Any]]:
    """The run's calls, at least one, all of which have to say `names`. Raises UnsupportedRun."""
    calls = run.fields.get("calls")
    if not isinstance(calls, list) or not calls or not all(isinstance(call, dict) and call.keys() >= {*names} for call in calls):
        raise UnsupportedRun("calls", calls, f"this run needs its calls, each with {' and '.join(names)}")
    return calls
