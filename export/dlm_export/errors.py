"""Every error the exporter raises on purpose.

DlmError (dlm_runtime.errors)
└── ExportError
    ├── CheckpointError     a checkpoint folder cannot be read; names file, tensor or field, and remedy
    ├── UnknownFamily       nothing here knows this architecture; lists those that are known
    ├── OptionError         an option does not suit the family; names option, value and what would
    └── OutputError         the bundle cannot be written where it was asked for
"""

from __future__ import annotations

from pathlib import Path

from dlm_runtime.errors import DlmError

SHOWN_CHARACTERS = 80


class ExportError(DlmError):
    """Base of the exporter's errors."""


class CheckpointError(ExportError):
    """A checkpoint cannot be used. `file` is where, `item` the tensor or field, `problem` what was found, `remedy` how to mend it."""

    def __init__(self, file: Path | str, problem: str, remedy: str, *, item: str | None = None) -> None:
        where = f"{file}: {item}" if item else f"{file}"
        super().__init__(f"{where}: {problem}. {remedy}")
        self.file = Path(file)
        self.item = item
        self.problem = problem
        self.remedy = remedy


class UnknownFamily(ExportError):
    """No family is registered for an architecture name."""

    def __init__(self, architecture: str, known: list[str]) -> None:
        super().__init__(
            f"config.json: architectures[0] is {architecture!r}, which no family here reads. Known ones are {', '.join(known)}. "
            "A new one needs a key map, its numbers, its mask kind and its shift: docs/adding-a-family.md says how"
        )
        self.architecture = architecture
        self.known = known


class OptionError(ExportError):
    """An option of the command does not suit the family. `option` is its name as typed."""

    def __init__(self, option: str, value: object, remedy: str) -> None:
        super().__init__(f"{option} {value}: {remedy}")
        self.option = option
        self.value = value


class OutputError(ExportError):
    """The output folder cannot be written."""


def shown(value: object) -> str:
    """A value as an error message quotes it, cut where it is long; null is as good as missing."""
    if value is None:
        return "missing"
    try:
        text = repr(value)
    except RecursionError:
        return f"a {type(value).__name__} nested too deeply"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
