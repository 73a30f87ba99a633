"""Every error the exporter raises on purpose.

DlmError (dlm_runtime.errors)
└── ExportError
    ├── CheckpointError     a checkpoint folder cannot be read; names file, tensor or field, and remedy
    ├── UnknownFamily       nothing here knows this architecture; lists those that are known
    └── OutputError         the bundle cannot be written where it was asked for
"""

from __future__ import annotations

from pathlib import Path

from dlm_runtime.errors import DlmError


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
        super().__init__(f"architecture {architecture!r} is not supported; known ones are {', '.join(known)}")
        self.architecture = architecture
        self.known = known


class OutputError(ExportError):
    """The output folder cannot be written."""
