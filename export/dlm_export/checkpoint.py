"""A checkpoint folder in Hugging Face form, read without running anything that came with it.

Tensors are read one at a time, so exporting needs memory for the graph and one tensor, not for the checkpoint twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import CheckpointError, shown
from .safetensors_header import ITEM_BYTES, Entry, Header, read_header
from .tensor_data import Index, read_tensor

CONFIG_FILE = "config.json"
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
    indexed: Mapping[str, str] = field(default_factory=dict)  # tensor name -> file name, where there is an index

    @staticmethod
    def open(path: str | Path) -> Checkpoint:
        """Read config and tensor headers.

        Raises CheckpointError: no such folder, no or malformed config.json, no safetensors, a shard that is missing or cut short.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise CheckpointError(folder, "is not a folder", GIVE_CHECKPOINT)
        bundle = not (folder / CONFIG_FILE).exists() and (folder / "manifest.json").exists()
        config = read_json_object(folder / CONFIG_FILE, GIVE_SOURCE if bundle else GIVE_CHECKPOINT)
        indexed = read_index(folder) if (folder / INDEX_FILE).is_file() else {}
        names = sorted(set(indexed.values())) or [single_file(folder)]
        return Checkpoint(folder, config, {name: read_header(folder / name) for name in names}, indexed)

    @cached_property
    def shard_of(self) -> dict[str, str]:
        """Tensor name -> file name; the index decides between files that hold the same."""
        held = {tensor: name for name, header in self.headers.items() for tensor in header.entries}
        return held | {tensor: name for tensor, name in self.indexed.items() if tensor in self.headers[name].entries}

    @property
    def architecture(self) -> str:
        """`architectures[0]` of config.json, the only thing a family is chosen by."""
        names = self.config.get("architectures")
        if not isinstance(names, list) or not names or not isinstance(names[0], str):
            raise CheckpointError(
                self.path / CONFIG_FILE, f"is {shown(names)}", "It must list the model's class name first", item="architectures"
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
            there = f" from {self.indexed[tensor]}, where the index says it is" if tensor in self.indexed else ""
            raise CheckpointError(
                self.path / (INDEX_FILE if self.indexed else SINGLE_FILE),
                f"is missing{there}; {len(self.shard_of)} other tensors are there",
                f"{DOWNLOAD_AGAIN}, or check that config.json belongs to it",
                item=tensor,
            )
        file = self.path / file_name
        found = self.headers[file_name].entries[tensor].shape
        if found != shape:
            raise CheckpointError(file, f"has shape {list(found)}, config.json asks for {list(shape)}", DOWNLOAD_AGAIN, item=tensor)
        return file

    def item_bytes(self, tensor: str) -> int:
        """Bytes of one number of a tensor as it is stored."""
        return ITEM_BYTES.get(self.entry(tensor).dtype, 1)

    def entry(self, tensor: str) -> Entry:
        """What the header of its shard says of a tensor."""
        return self.headers[self.shard_of[tensor]].entries[tensor]

    def read(self, tensor: str, shape: tuple[int, ...], index: Index = ()) -> NDArray[np.float32]:
        """One tensor of the given stored shape, or the part of it that `index` cuts out, as float32.

        Raises CheckpointError naming file and tensor: as `file_of` does, or because it is not floating point, NaN or infinite.
        """
        file = self.file_of(tensor, shape)
        value = read_tensor(file, tensor, self.entry(tensor), index)
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


def read_index(folder: Path) -> dict[str, str]:
    """Tensor name -> file name, from the index of a checkpoint in several files."""
    file = folder / INDEX_FILE
    weight_map = read_json_object(file).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(file, "is missing or empty", DOWNLOAD_AGAIN, item="weight_map")
    for tensor, name in weight_map.items():
        if not isinstance(name, str):
            raise CheckpointError(file, f"is {shown(name)}, expected the name of a file", DOWNLOAD_AGAIN, item=f"weight_map.{tensor}")
        if name in ("", ".", "..") or set(name) & set("/\\:\0"):
            problem = f"lists {shown(name)}, which leaves the folder or names no file"
            raise CheckpointError(file, problem, DOWNLOAD_AGAIN, item=f"weight_map.{tensor}")
        if Path(name).suffix in PICKLE_SUFFIXES:
            raise pickle_error(folder / name)
    return weight_map


def single_file(folder: Path) -> str:
    """The safetensors file of a checkpoint in one."""
    if (folder / SINGLE_FILE).is_file():
        return SINGLE_FILE
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
