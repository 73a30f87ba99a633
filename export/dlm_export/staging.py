"""A folder that is whole or absent: written beside its place under another name, then renamed."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dlm_runtime.bundle.folder import MANIFEST_NAME

from .errors import OutputError


def check_target(target: Path, *, force: bool) -> None:
    """Raise OutputError unless `target` is absent, an empty folder, or, with `force`, a bundle.

    Forcing replaces bundles only, so that a slip of the hand cannot empty some other folder.
    """
    if not os.path.lexists(target):
        return
    if not target.is_dir() or target.is_symlink():
        raise OutputError(f"{target} exists and is not a folder. Choose another --out")
    if not any(target.iterdir()):
        return
    if not force:
        raise OutputError(f"{target} is not empty. Choose another --out, or replace the bundle there with --force")
    if not (target / MANIFEST_NAME).is_file():
        raise OutputError(f"{target} is not empty and holds no {MANIFEST_NAME}, so --force does not replace it. Choose another --out")


@contextmanager
def staged_folder(target: Path, *, force: bool) -> Iterator[Path]:
    """Yield a new folder beside `target`; on a clean exit it takes the target's place, on any exception it is removed.

    Raises OutputError where the target may not be replaced or the disk says no.
    """
    check_target(target, force=force)
    staging = target.parent / f".{target.name}.partial-{uuid.uuid4().hex[:8]}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
        yield staging
        replace_folder(staging, target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def replace_folder(new: Path, target: Path) -> None:
    """Rename `new` to `target`. What stood there is moved aside first and put back if the rename fails."""
    if not target.exists():
        new.rename(target)
        return
    old = target.parent / f".{target.name}.replaced-{uuid.uuid4().hex[:8]}"
    target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
