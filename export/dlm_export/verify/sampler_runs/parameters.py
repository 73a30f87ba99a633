"""Parameters of a recorded run, read one by one, so that none is overlooked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dlm_runtime.bundle import Manifest

from ...errors import ExportError, shown
from .prepared import RecordedRun


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
        self.values = run.params
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
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number of at least 0."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise UnsupportedRun(name, value, "a whole number is needed")
        return value

    def positive(self, name: str, default: int | None = None) -> int:
        """A whole number of at least 1."""
        value = self.integer(name, default)
        if value < 1:
            raise UnsupportedRun(name, value, "a whole number of at least 1 is needed")
        return value

    def optional_number(self, name: str) -> float | None:
        """A number, or None."""
        return None if self.get(name) is None else self.number(name)

    def choice(self, name: str, default: str | None, choices: Iterable[str | None]) -> Any:
        """One of `choices`."""
        value = self.get(name, default)
        if value not in (known := list(choices)):
            raise UnsupportedRun(name, value, f"known are {', '.join(map(str, known))}")
        return value

    def ids(self, name: str) -> tuple[int, ...]:
        """Token ids, none where the argument is missing or null."""
        value = self.get(name)
        if value is None:
            return ()
        if not isinstance(value, list | tuple) or not all(isinstance(item, int) for item in value):
            raise UnsupportedRun(name, value, "a list of token ids is needed")
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
