"""A progress bar on stderr while work goes on; silent where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .progress import SILENT
from .progress import Progress as Told


class Bar:
    """One line: what is being done and, where the size is known, how far."""

    def __init__(self, progress: Progress, sentence: str) -> None:
        self._progress = progress
        self._task: TaskID = progress.add_task(sentence, total=None)

    def stage(self, sentence: str, *, total_bytes: int | None = None) -> None:
        """See `Progress.stage`."""
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(sentence, total=total_bytes)

    def advance(self, size_bytes: int) -> None:
        """See `Progress.advance`."""
        self._progress.advance(self._task, size_bytes)


@contextmanager
def shown_progress(sentence: str, *, quiet: bool) -> Iterator[Told]:
    """A bar, unless output is for machines or goes to a file."""
    if quiet or not sys.stderr.isatty():
        yield SILENT
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bar(progress, sentence)
