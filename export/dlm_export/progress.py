"""How long work says where it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told of stages and, within one whose `total_bytes` are known, of bytes done."""

    def stage(self, sentence: str, *, total_bytes: int | None = None) -> None:
        """A new stage begins."""
        ...

    def advance(self, size_bytes: int) -> None:
        """So many more bytes of the stage are done."""
        ...


class Silent:
    """Says nothing."""

    def stage(self, sentence: str, *, total_bytes: int | None = None) -> None:
        """See `Progress.stage`."""

    def advance(self, size_bytes: int) -> None:
        """See `Progress.advance`."""


SILENT = Silent()
