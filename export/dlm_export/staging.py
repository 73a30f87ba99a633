"""A folder that is whole or absent: written beside its place under another name, then renamed."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dlm_runtime.bundle.folder import MANIFEST_NAME

from .errors import OutputError


def check_target(target: Path, *, force: bool) -> None:
    """Raise OutputError unless `target` is text, and absent, an empty folder, or, with `force`, a bundle.

    Forcing replaces bundles only, so that a slip of the hand cannot empty some other folder.
    """
    if any("\ud800" <= character <= "\udfff" for character in str(target)):  # which ONNX's checker cannot open
        raise OutputError(f"{str(target)!a} holds bytes that are no text. Choose another --out")
    if not os.path.lexists(target):
        return
    if not target.is_dir() or target.is_symlink():
        raise OutputError(f"{target} exists and is not a folder. Choose another --out")
    if not any(target.iterdir()):
        return
    if not force:
        raise OutputError(f"{target} is not empty. Choose another --out, or replace the bundle there with --force")
    if not is_bundle(target):
        raise OutputError(
            f"{target} is not empty and holds no bundle's {MANIFEST_NAME}, so --force does not replace it. Choose another --out"
        )


def check_apart(source: Path, target: Path) -> None:
    """Raise OutputError where writing or replacing `target` would touch the checkpoint in `source`."""
    source, target = Path(os.path.realpath(source)), Path(os.path.realpath(target))
    if os.path.exists(target) and source.is_relative_to(target):
        raise OutputError(f"{target} is or holds the checkpoint {source}, which would be replaced. Choose another --out")


def is_bundle(folder: Path) -> bool:
    """Whether a folder has a bundle's manifest, of whatever release; other programs name files manifest.json too."""
    try:
        fields = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and {"schema_version", "targets", "files"} <= fields.keys()


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
    try:
        target.rename(old)
        new.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
