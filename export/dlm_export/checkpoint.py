"""A checkpoint folder in Hugging Face form, read without running anything that came with it.

Tensors are read one at a time, so exporting needs memory for the graph and one tensor, not for the checkpoint twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from .errors import CheckpointError
from .safetensors_header import Header, read_header

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
DOWNLOAD_AGAIN = "Download the checkpoint again"
GIVE_SOURCE = "This is a bundle, not a checkpoint: give the checkpoint that it was made from"
GIVE_CHECKPOINT = "Give a checkpoint folder, the one that holds config.json"


@dataclass(frozen=True)
class Checkpoint:
    """A folder with config.json and safetensors. Make one with `Checkpoint.open`, which reads headers but no weights."""

    path: Path
    config: dict[str, Any]
    headers: dict[str, Header]  # by shard file name

    @staticmethod
    def open(path: str | Path) -> Checkpoint:
        """Read config and tensor headers.

        Raises CheckpointError: no such folder, no or malformed config.json, no safetensors, a shard that is missing or cut short.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise CheckpointError(folder, "is not a folder", GIVE_CHECKPOINT)
        bundle = not (folder / "config.json").exists() and (folder / "manifest.json").exists()
        config = read_json_object(folder / "config.json", GIVE_SOURCE if bundle else GIVE_CHECKPOINT)
        names = shard_names(folder)
        return Checkpoint(folder, config, {name: read_header(folder / name) for name in names})

    @cached_property
    def shard_of(self) -> dict[str, str]:
        """Tensor name -> file name."""
        return {tensor: name for name, header in self.headers.items() for tensor in header.shapes}

    @property
    def architecture(self) -> str:
        """`architectures[0]` of config.json, the only thing a family is chosen by."""
        names = self.config.get("architectures")
        if not isinstance(names, list) or not names or not isinstance(names[0], str):
            raise CheckpointError(
                self.path / "config.json", f"has {names!r}", "It must list the model's class name first", item="architectures"
            )
        return names[0]

    @property
    def revision(self) -> str | None:
        """The commit, where the folder lies in a Hugging Face cache (`snapshots/<commit>`)."""
        folder = self.path.resolve()
        return folder.name if folder.parent.name == "snapshots" else None

    def file_of(self, tensor: str, shape: tuple[int, ...]) -> Path:
        """The file that holds a tensor. Raises CheckpointError, from the headers alone, where it is missing or of another shape."""
        file_name = self.shard_of.get(tensor)
        if file_name is None:
            raise CheckpointError(
                self.path / (next(iter(self.headers)) if len(self.headers) == 1 else INDEX_FILE),
                f"is missing; {len(self.shard_of)} other tensors are there",
                f"{DOWNLOAD_AGAIN}, or check that config.json belongs to it",
                item=tensor,
            )
        file = self.path / file_name
        found = self.headers[file_name].shapes[tensor]
        if found != shape:
            raise CheckpointError(file, f"has shape {list(found)}, config.json asks for {list(shape)}", DOWNLOAD_AGAIN, item=tensor)
        return file

    def read(self, tensor: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """One tensor as float32.

        Raises CheckpointError naming file and tensor: as `file_of` does, or because it is not floating point, NaN or infinite.
        """
        file = self.file_of(tensor, shape)
        with safetensors_errors(file, tensor), safe_open(file, framework="pt") as shard:
            value: torch.Tensor = shard.get_tensor(tensor)
        if not value.is_floating_point():
            raise CheckpointError(file, f"holds {value.dtype}", "Only floating point weights can be exported", item=tensor)
        array = value.float().numpy()
        if not np.isfinite(array).all():
            count = int((~np.isfinite(array)).sum())
            raise CheckpointError(file, f"holds {count} NaN or infinite values", f"{DOWNLOAD_AGAIN}, or train it anew", item=tensor)
        return array

    def unread(self, known: set[str]) -> list[str]:
        """Tensors of the checkpoint that are not among `known`, sorted."""
        return sorted(set(self.shard_of) - known)

    def text(self, name: str) -> str | None:
        """A text file of the folder, or None where there is none."""
        file = self.path / name
        if not file.is_file():
            return None
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(file, f"cannot be read ({error})", DOWNLOAD_AGAIN) from error

    def json(self, name: str) -> dict[str, Any] | None:
        """A JSON object of the folder, or None where there is none."""
        return read_json_object(self.path / name) if (self.path / name).is_file() else None


def read_json_object(file: Path, remedy: str = DOWNLOAD_AGAIN) -> dict[str, Any]:
    """A JSON file that holds an object; CheckpointError says what else it holds."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(file, "does not exist", remedy) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(file, f"is not readable JSON ({error})", remedy) from error
    if not isinstance(value, dict):
        raise CheckpointError(file, f"holds a JSON {type(value).__name__}, not an object", remedy)
    return value


def shard_names(folder: Path) -> list[str]:
    """The safetensors files that make up the checkpoint, from the index where there is one."""
    if (folder / INDEX_FILE).is_file():
        weight_map = read_json_object(folder / INDEX_FILE).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(folder / INDEX_FILE, "is missing or empty", DOWNLOAD_AGAIN, item="weight_map")
        names = sorted({str(name) for name in weight_map.values()})
        for name in names:
            if name in ("", ".", "..") or set(name) & set("/\\:\0"):
                raise CheckpointError(folder / INDEX_FILE, f"lists {name!r}, which leaves the folder or names no file", DOWNLOAD_AGAIN)
            if Path(name).suffix in PICKLE_SUFFIXES:
                raise pickle_error(folder / name)
        return names
    if (folder / SINGLE_FILE).is_file():
        return [SINGLE_FILE]
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLE_SUFFIXES)
    if pickles:
        raise pickle_error(folder / pickles[0])
    raise CheckpointError(folder, f"holds neither {SINGLE_FILE} nor {INDEX_FILE}", DOWNLOAD_AGAIN)


def pickle_error(file: Path) -> CheckpointError:
    """Why a pickle is not read."""
    return CheckpointError(
        file,
        "is a pickle, and loading a pickle runs whatever code is in it",
        "Take the safetensors form of this checkpoint, or convert it on a machine you can lose",
    )


@contextmanager
def safetensors_errors(file: Path, tensor: str) -> Iterator[None]:
    """Turn what the safetensors library raises into a CheckpointError with file and tensor."""
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise CheckpointError(file, f"cannot be read ({error})", DOWNLOAD_AGAIN, item=tensor) from error
