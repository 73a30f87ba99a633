"""A download's progress as sentences, in place of the bars that huggingface_hub would draw."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

UNITS = ("B", "kB", "MB", "GB", "TB")


def in_units(size_bytes: float) -> str:
    """`16.1 GB`."""
    for unit in UNITS:
        if size_bytes < 1000 or unit == UNITS[-1]:
            return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    raise AssertionError("the last unit holds everything")


def download_bar(label: str, progress: Callable[[str], None]) -> type[Any]:
    """A class for `snapshot_download(tqdm_class=...)` that tells `progress` how far the bytes have come."""
    from tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            options.pop("name", None)  # huggingface_hub's own, unknown to tqdm
            super().__init__(*arguments, **(options | {"file": io.StringIO(), "disable": False}))

        def display(self, msg: str | None = None, pos: int | None = None) -> bool:
            if self.unit == "B" and self.n:
                whole = f" of {in_units(self.total)}" if self.total else ""
                progress(f"{label}: {in_units(self.n)}{whole}")
            return True

    return Bar
