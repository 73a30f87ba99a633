"""The published checkpoints, without their weights: every file that is read is in published/, and the data are a hole in a sparse file.

Tensor names and shapes there are those of the published files and of the published code, not of the exporter. `source` says what was seen.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict
from fnmatch import fnmatch
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from dlm_export.bundle_manifest import make_manifest
from dlm_export.checkpoint import INDEX_FILE, SINGLE_FILE, Checkpoint
from dlm_export.export_options import ExportOptions
from dlm_export.exportable import Exportable
from dlm_export.families import SpecialOverrides, family_of
from dlm_export.safetensors_header import ITEM_BYTES

PUBLISHED = Path(__file__).parent / "published"
NAMES = sorted(file.stem for file in PUBLISHED.glob("*.json"))
SHARD_TENSORS = 5000
RANGE = re.compile(r"\{([\d,-]+)\}")
HEAD, TABLE = "lm_head.weight", "model.embed_tokens.weight"

Tensors = dict[str, tuple[str, list[int]]]  # name -> type, shape


def read(name: str) -> dict[str, Any]:
    return json.loads((PUBLISHED / f"{name}.json").read_text(encoding="utf-8"))


def numbers(text: str) -> list[int]:
    """`0-2,5` -> 0, 1, 2, 5."""
    ends = ([int(end) for end in part.split("-")] for part in text.split(","))
    return [number for first, *last in ends for number in range(first, (last or [first])[0] + 1)]


def expanded(patterns: dict[str, list[Any]]) -> Iterator[tuple[str, tuple[str, list[int]]]]:
    """`layers.{0-27}.norm` -> a name for each of the numbers, all combinations where there are several."""
    for pattern, (kind, *shape) in patterns.items():
        pieces = RANGE.split(pattern)
        for chosen in product(*map(numbers, pieces[1::2])):
            between = [str(number) for number in chosen] + [""]
            yield "".join(text + number for text, number in zip(pieces[::2], between, strict=True)), (kind, shape)


def write_hole(file: Path, tensors: Tensors) -> None:
    """A safetensors file whose data take no room on the disk."""
    header: dict[str, Any] = {}
    stop = 0
    for name, (kind, shape) in tensors.items():
        start, stop = stop, stop + math.prod(shape) * ITEM_BYTES[kind]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, stop]}
    text = json.dumps(header).encode()
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + stop)


def write_checkpoint(folder: Path, published: dict[str, Any]) -> Path:
    """The checkpoint's folder, in several files with an index where there are many tensors."""
    folder.mkdir()
    for name, content in published.items():
        if name.endswith(".json"):
            (folder / name).write_text(json.dumps(content), encoding="utf-8")
    tensors = dict(expanded(published["tensors"]))
    if len(tensors) <= SHARD_TENSORS:
        write_hole(folder / SINGLE_FILE, tensors)
        return folder
    weight_map = {name: f"model-{number // SHARD_TENSORS + 1:05d}.safetensors" for number, name in enumerate(tensors)}
    for shard in set(weight_map.values()):
        write_hole(folder / shard, {name: tensors[name] for name in tensors if weight_map[name] == shard})
    (folder / INDEX_FILE).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")
    return folder


def plain(value: Any) -> Any:
    """Dataclasses' contents as JSON has them."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return sorted(value) if isinstance(value, frozenset) else list(value) if isinstance(value, tuple) else value


def facts_of(source: Exportable) -> dict[str, Any]:
    """Everything that a published file decides, under one name each."""
    options = ExportOptions()
    manifest = make_manifest(source, options, options.precisions(source.stored_embedding))
    return plain(asdict(vars(source.backbone)["config"])) | manifest.model_dump(mode="json", exclude={"head_dim", "kv_heads"})


@pytest.mark.parametrize("name", NAMES)
def test_a_published_checkpoint(tmp_path: Path, name: str) -> None:
    published = read(name)
    expected, said = published["expected"], published.get("notes", [])
    source = Exportable.open(write_checkpoint(tmp_path / name, published), SpecialOverrides())
    facts = facts_of(source)
    patterns = expected.pop("left_out")
    assert {field: facts[field] for field in expected} == expected
    used = {source.family.source(tensor, shape, source.backbone).key for tensor, shape in source.backbone.tensor_shapes()}
    left_out = source.checkpoint.unread(used)
    assert [tensor for tensor in left_out if not any(fnmatch(tensor, pattern) for pattern in patterns)] == []
    assert [pattern for pattern in patterns if not any(fnmatch(tensor, pattern) for tensor in left_out)] == []
    assert [note[: len(start)] for note, start in zip(source.tokens.notes, said, strict=True)] == said


def test_more_context_than_dream_was_trained_on(tmp_path: Path) -> None:
    source = Exportable.open(write_checkpoint(tmp_path / "dream", read("Dream-v0-Instruct-7B")), SpecialOverrides())
    options = ExportOptions(max_context=8192)
    assert make_manifest(source, options, options.precisions(source.stored_embedding)).max_context == 8192


@pytest.mark.parametrize("difference", [0.0, 0.5])
def test_a_tied_head_that_is_stored_all_the_same(golden_copy: Callable[[str], Any], difference: float) -> None:
    checkpoint = golden_copy("a2d_qwen3")

    def add_head(tensors: dict[str, torch.Tensor]) -> None:
        tensors[HEAD] = tensors[TABLE].clone()
        tensors[HEAD][-1, -1] += difference

    checkpoint.tensors(add_head)
    opened = Checkpoint.open(checkpoint.path)
    backbone = family_of(opened).backbone(opened)
    assert ("head.weight" in dict(backbone.tensor_shapes())) == bool(difference)
