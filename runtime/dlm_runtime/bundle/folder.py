"""A bundle on disk: loading it with every check, and writing its manifest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from pydantic import ValidationError

from dlm_runtime.bundle.manifest import Manifest
from dlm_runtime.errors import BundleError

MANIFEST_NAME = "manifest.json"
TOKENIZER_NAME = "tokenizer.json"
_EXPORT_AGAIN = "Export the bundle again with dlm-export"
_WEIGHT_SUFFIXES = frozenset({".bin", ".data", ".onnx", ".onnx_data", ".pt", ".safetensors", ".weight", ".weights"})
_NO_BUNDLE = f"This folder is no bundle. {_EXPORT_AGAIN}"


@dataclass(frozen=True)
class Bundle:
    """A checked bundle folder. Make one with `Bundle.load`."""

    path: Path
    manifest: Manifest

    @staticmethod
    def load(path: str | Path, verify_hashes: bool = True) -> Bundle:
        """Reads and checks the folder at `path`.

        Raises BundleError naming the file, what was found and how to mend it: no such folder, no or malformed manifest, an unknown
        schema version, a listed file that is missing, changed, or outside the folder, a file of weights that is not listed.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise BundleError(folder, "is not a folder", "Give the folder that dlm-export wrote, the one that holds manifest.json")
        manifest = _read_manifest(folder / MANIFEST_NAME)
        for relative, digest in manifest.files.items():
            file = _inside(folder, relative)
            if verify_hashes and (found := _hash_of(file)) != digest:
                raise BundleError(file, f"has sha256 {found}, the manifest says {digest}", f"The file has changed. {_EXPORT_AGAIN}")
        _check_targets(folder, manifest)
        _check_unlisted(folder, manifest)
        return Bundle(folder, manifest)

    @property
    def model_path(self) -> Path:
        """The ONNX file that the ONNX Runtime engine loads."""
        return self.path / self.manifest.targets[0].file

    @property
    def tokenizer_path(self) -> Path | None:
        """tokenizer.json, or None where the bundle speaks token ids only."""
        return self.path / TOKENIZER_NAME if TOKENIZER_NAME in self.manifest.files else None


def write_manifest(folder: str | Path, manifest: Manifest) -> Manifest:
    """Hashes every file of `folder` but the manifest itself, writes manifest.json and returns the manifest that was written."""
    root = Path(folder)
    paths = sorted(file for file in root.rglob("*") if file.is_file() and file.name != MANIFEST_NAME)
    files = {file.relative_to(root).as_posix(): sha256_hex(file) for file in paths}
    written = manifest.model_copy(update={"files": files})
    _check_targets(root, written)
    (root / MANIFEST_NAME).write_text(written.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return written


def sha256_hex(file: Path) -> str:
    """Lower-case hexadecimal SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _hash_of(file: Path) -> str:
    try:
        return sha256_hex(file)
    except OSError as error:
        raise BundleError(file, f"cannot be read ({error})", "Check the disk and the file's permissions") from error


def _read_manifest(file: Path) -> Manifest:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        checkpoint = (file.parent / "config.json").is_file()
        what = "This is a checkpoint, not a bundle: give the folder that dlm-export made of it" if checkpoint else _NO_BUNDLE
        raise BundleError(file, "does not exist", what) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(file, f"cannot be read ({error})", _EXPORT_AGAIN) from error
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(file, f"is not JSON ({error})", _EXPORT_AGAIN) from error
    if not isinstance(fields, dict):
        raise BundleError(file, f"holds a JSON {type(fields).__name__}, not an object", _EXPORT_AGAIN)
    if (version := fields.get("schema_version")) != 1:
        raise BundleError(file, f"schema_version={version!r} is unknown here, 1 is known", f"{_EXPORT_AGAIN} of the same release")
    try:
        return Manifest.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BundleError(file, _complaint(first["loc"], first["type"], first["input"], first["msg"]), _EXPORT_AGAIN) from error


def _complaint(where: tuple[int | str, ...], kind: str, value: object, message: str) -> str:
    """One pydantic error in words. A missing field and a contradiction between fields have the whole manifest as their value."""
    field = ".".join(str(part) for part in where)
    if kind == "missing":
        return f"{field} is missing"
    return f"{field}={str(value)[:80]}: {message}" if field else message.removeprefix("Value error, ")


def _check_targets(folder: Path, manifest: Manifest) -> None:
    for file in (file for target in manifest.targets for file in target.files()):
        if file not in manifest.files:
            raise BundleError(folder / file, "is a target but not among the manifest's files", _EXPORT_AGAIN)


def _check_unlisted(folder: Path, manifest: Manifest) -> None:
    """Refuses models and weights that the manifest does not list. Engines open external weights on their own, past the hashes.

    Other unlisted files, such as notes, are left alone.
    """
    listed = {PurePosixPath(relative).as_posix() for relative in manifest.files}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in _WEIGHT_SUFFIXES and file.relative_to(folder).as_posix() not in listed and not file.is_dir():
            raise BundleError(file, "is not among the manifest's files", f"Remove it, or {_EXPORT_AGAIN.lower()}")


def _inside(folder: Path, relative: str) -> Path:
    """The listed file, once it is sure that it exists and lies in the folder, links followed."""
    file = folder / relative
    listed = (PurePosixPath(relative), PureWindowsPath(relative))
    try:
        leaves = any(path.is_absolute() or path.drive or ".." in path.parts for path in listed)
        if leaves or not file.resolve().is_relative_to(folder.resolve()):
            raise BundleError(folder / MANIFEST_NAME, f"files lists {relative!r}, which leaves the folder", _EXPORT_AGAIN)
        found = file.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, a link to itself
        raise BundleError(folder / MANIFEST_NAME, f"files lists {relative[:80]!r}, which is no path ({error})", _EXPORT_AGAIN) from error
    if not found:
        raise BundleError(file, "is listed in the manifest but missing", _EXPORT_AGAIN)
    return file
