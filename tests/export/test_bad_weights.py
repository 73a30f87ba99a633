"""Weights that cannot be right: which file, which tensor, what is wrong, exit code 2, and nothing on the disk."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from dlm_export.checkpoint import Checkpoint
from dlm_export.exporting import export_bundle
from dlm_export.families import family_of
from dlm_export.weights import WeightReader
from safetensors.torch import load_file, save_file

SEVERAL = ["llada", "llada2", "bert", "mdlm", "diffusion_gemma"]
FIXTURES = Path(__file__).parents[1] / "fixtures"
EVERY = sorted(folder.name for folder in FIXTURES.iterdir() if folder.is_dir())
Copy = Callable[[str], Any]
Refused = Callable[..., None]


def needed(path: Path) -> list[str]:
    """The tensors of a checkpoint that its family reads, sorted."""
    opened = Checkpoint.open(path)
    family = family_of(opened)
    backbone = family.backbone(opened)
    return sorted({family.source(name, shape, backbone).key for name, shape in backbone.tensor_shapes()})


def rewrite_header(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the JSON of a safetensors header in place; the data stay as they are."""
    data = file.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("size_bytes", [0, 7, 8, 100, -1])
def test_file_cut_short(golden_copy: Copy, refused: Refused, name: str, size_bytes: int) -> None:
    checkpoint = golden_copy(name)
    checkpoint.weights.write_bytes(checkpoint.weights.read_bytes()[:size_bytes])
    refused(checkpoint.path, "model.safetensors: ", "is cut short")


@pytest.mark.parametrize("length", [0, 1, 10**6, 2**40, 2**63, 2**64 - 1])
def test_header_of_absurd_length(checkpoint: Any, refused: Refused, length: int) -> None:
    checkpoint.weights.write_bytes(struct.pack("<Q", length) + checkpoint.weights.read_bytes()[8:])
    refused(checkpoint.path, "model.safetensors: ")


ENTRIES: list[tuple[dict[str, Any], str]] = [
    ({"data_offsets": [-4, 4]}, "has a malformed header entry"),
    ({"data_offsets": [64, 0]}, "has -64 bytes for "),
    ({"data_offsets": [0, 2**70]}, "is cut short: the tensor ends at byte 1180591620717411303424"),
    ({"data_offsets": [0, 8]}, "has 8 bytes for "),
    ({"data_offsets": [0]}, "has a malformed header entry"),
    ({"data_offsets": [0, 1, 2]}, "has a malformed header entry"),
    ({"data_offsets": ["0", "8"]}, "has a malformed header entry"),
    ({"data_offsets": [0.0, 8.0]}, "has a malformed header entry"),
    ({"data_offsets": [False, True]}, "has a malformed header entry"),
    ({"data_offsets": None}, "has a malformed header entry"),
    ({"shape": [-1, -1]}, "has a malformed header entry"),
    ({"shape": [2**40, 2**40]}, " bytes for "),
    ({"shape": ["2"]}, "has a malformed header entry"),
    ({"shape": 7}, "has a malformed header entry"),
    ({"shape": [[2]]}, "has a malformed header entry"),
    ({"shape": []}, " bytes for "),
]


@pytest.mark.parametrize(("change", "message"), ENTRIES, ids=lambda value: str(value)[:40])
def test_header_entry_that_cannot_be(golden_copy: Copy, refused: Refused, change: dict[str, Any], message: str) -> None:
    checkpoint = golden_copy("llada2")
    tensor = "model.layers.1.mlp.experts.3.up_proj.weight"
    rewrite_header(checkpoint.weights, lambda header: header[tensor].update(change))
    refused(checkpoint.path, f"model.safetensors: {tensor}: ", message)


@pytest.mark.parametrize("entry", [None, 3, "F32", [], {}, {"dtype": "F32"}, {"dtype": "F32", "shape": [1]}])
def test_header_entry_that_is_none(golden_copy: Copy, refused: Refused, entry: object) -> None:
    checkpoint = golden_copy("mdlm")
    tensor = "backbone.blocks.1.mlp.2.bias"
    rewrite_header(checkpoint.weights, lambda header: header.update({tensor: entry}))
    refused(checkpoint.path, f"model.safetensors: {tensor}: has a malformed header entry")


@pytest.mark.parametrize("name", SEVERAL)
def test_tensors_on_the_same_bytes(golden_copy: Copy, refused: Refused, name: str) -> None:
    checkpoint = golden_copy(name)

    def overlap(header: dict[str, Any]) -> None:
        one, other = [key for key in sorted(header) if header[key].get("shape") and key.endswith("weight")][:2]
        start, stop = header[one]["data_offsets"]
        header[other] = header[one] | {"data_offsets": [start, stop]}

    rewrite_header(checkpoint.weights, overlap)
    refused(checkpoint.path, "model.safetensors: ", "lies on the same bytes as")


@pytest.mark.parametrize("name", SEVERAL)
def test_missing_tensor(golden_copy: Copy, refused: Refused, name: str) -> None:
    checkpoint = golden_copy(name)
    tensor = next(key for key in needed(checkpoint.path) if re.search(r"\.1\.", key))
    checkpoint.tensors(lambda tensors: tensors.pop(tensor))
    refused(checkpoint.path, f"model.safetensors: {tensor}: is missing; ")


@pytest.mark.parametrize("name", EVERY)
def test_tensors_of_another_shape(golden_copy: Copy, refused: Refused, name: str) -> None:
    """One row less of the first tensor and of one in the middle, and a matrix that lies on its side."""
    checkpoint = golden_copy(name)
    keys = needed(checkpoint.path)
    for key in (keys[0], keys[len(keys) // 2]):
        checkpoint = reset(checkpoint, name)
        checkpoint.tensors(lambda tensors, key=key: tensors.update({key: tensors[key][:-1].clone()}))
        refused(checkpoint.path, f"model.safetensors: {key}: has shape [", "config.json asks for [")
    checkpoint = reset(checkpoint, name)
    tall = next(
        key for key, entry in Checkpoint.open(checkpoint.path).headers["model.safetensors"].entries.items() if tall_matrix(key, entry, keys)
    )
    checkpoint.tensors(lambda tensors: tensors.update({tall: tensors[tall].T.contiguous()}))
    refused(checkpoint.path, f"model.safetensors: {tall}: has shape [", "config.json asks for [")


def tall_matrix(key: str, entry: Any, keys: list[str]) -> bool:
    return key in keys and len(entry.shape) == 2 and entry.shape[0] != entry.shape[1]


def reset(checkpoint: Any, name: str) -> Any:
    """The golden weights again."""
    checkpoint.weights.write_bytes((FIXTURES / name / "model.safetensors").read_bytes())
    return checkpoint


def kinds_of_tensors(keys: list[str]) -> list[str]:
    """One of every kind: norms, biases, embeddings, the head, what routes, an expert, and the last."""
    patterns = (r"norm|ln_f", r"bias$", r"emb|wte", r"lm_head|decoder|output_layer", r"\.1\..*(gate|router)", r"experts\.3\.", r"experts")
    found = [next((key for key in reversed(keys) if re.search(pattern, key)), None) for pattern in patterns]
    return list(dict.fromkeys(key for key in (*found, keys[0], keys[-1]) if key is not None))


@pytest.mark.parametrize("name", EVERY)
def test_values_that_are_not_finite(golden_copy: Copy, refused: Refused, name: str) -> None:
    """NaN and both infinities, in tensors of every kind, at their first, last and some middle number."""
    checkpoint = golden_copy(name)
    for index, key in enumerate(kinds_of_tensors(needed(checkpoint.path))):
        value = (float("nan"), float("inf"), float("-inf"))[index % 3]

        def spoil(tensors: dict[str, torch.Tensor], key: str = key, value: float = value, index: int = index) -> None:
            flat = tensors[key].view(-1)
            flat[(0, -1, len(flat) // 2)[index % 3]] = value

        checkpoint.tensors(spoil)
        refused(checkpoint.path, f"model.safetensors: {key}: holds 1 NaN or infinite value")
        reset(checkpoint, name)


def test_every_tensor_is_read_and_so_checked(member: Any, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[str] = set()
    work = WeightReader.read

    def watching(self: WeightReader, name: str) -> Any:
        read.add(self.source(name).key)
        return work(self, name)

    monkeypatch.setattr(WeightReader, "read", watching)
    export_bundle(member.checkpoint, out)
    assert sorted(read) == needed(member.checkpoint)


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool])
@pytest.mark.parametrize("name", ["sdar", "modernbert", "diffusion_gemma"])
def test_whole_numbers_are_no_weights(golden_copy: Copy, refused: Refused, name: str, kind: torch.dtype) -> None:
    checkpoint = golden_copy(name)
    key = next(key for key in needed(checkpoint.path) if "norm" in key)
    checkpoint.tensors(lambda tensors: tensors.update({key: torch.ones(tensors[key].shape, dtype=kind)}))
    refused(checkpoint.path, f"model.safetensors: {key}: holds ", "Only floating point weights can be exported")


def test_a_type_that_nobody_knows(golden_copy: Copy, refused: Refused) -> None:
    checkpoint = golden_copy("dream")
    key = "model.layers.0.self_attn.q_proj.bias"
    rewrite_header(checkpoint.weights, lambda header: header[key].update(dtype="F4"))
    refused(checkpoint.path, f"model.safetensors: {key}: holds F4")


# Checkpoints in several files.


@pytest.mark.parametrize("name", SEVERAL)
def test_missing_shard(golden_copy: Copy, refused: Refused, name: str) -> None:
    checkpoint = golden_copy(name)
    checkpoint.shard()
    (checkpoint.path / "model-00002-of-00002.safetensors").unlink()
    refused(checkpoint.path, "model-00002-of-00002.safetensors: does not exist")


@pytest.mark.parametrize("name", SEVERAL)
def test_shard_without_a_tensor_that_the_index_has(golden_copy: Copy, refused: Refused, name: str) -> None:
    checkpoint = golden_copy(name)
    checkpoint.shard()
    tensor = needed(checkpoint.path)[2]
    shard = json.loads(checkpoint.index.read_text(encoding="utf-8"))["weight_map"][tensor]
    rewrite_header(checkpoint.path / shard, lambda header: header.pop(tensor))
    refused(checkpoint.path, f"model.safetensors.index.json: {tensor}: is missing from {shard}, where the index says it is")


def test_broken_values_name_their_shard(golden_copy: Copy, refused: Refused) -> None:
    checkpoint = golden_copy("llada_moe")
    tensor = next(key for key in needed(checkpoint.path) if "experts.3" in key)
    checkpoint.tensors(lambda tensors: tensors[tensor].view(-1)[5].fill_(float("nan")))
    checkpoint.shard()
    shard = json.loads(checkpoint.index.read_text(encoding="utf-8"))["weight_map"][tensor]
    refused(checkpoint.path, f"{shard}: {tensor}: holds 1 NaN or infinite value")


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "..", ".", "", "/etc/passwd", "a/b", "a\\b", "..\\model.safetensors", "C:model", "a\0b"]
)
def test_index_that_leaves_the_folder(golden_copy: Copy, refused: Refused, name: str) -> None:
    checkpoint = golden_copy("fast_dllm_v2")
    checkpoint.index.write_text(json.dumps({"weight_map": {"a.weight": name}}), encoding="utf-8")
    refused(checkpoint.path, "index.json: weight_map.a.weight: lists ", "which leaves the folder or names no file")


@pytest.mark.parametrize("name", [3, None, True, [], {}, ["model.safetensors"], 2.5])
def test_index_entries_that_are_no_names(golden_copy: Copy, refused: Refused, name: object) -> None:
    checkpoint = golden_copy("fast_dllm_v2")
    checkpoint.index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b.weight": name}}), encoding="utf-8")
    refused(checkpoint.path, "index.json: weight_map.b.weight: is ", "expected the name of a file")


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": 3}', "[" * 10**5])
def test_index_that_is_none(golden_copy: Copy, refused: Refused, text: str) -> None:
    checkpoint = golden_copy("dream")
    checkpoint.index.write_text(text, encoding="utf-8")
    refused(checkpoint.path, "model.safetensors.index.json: ")


def test_index_decides_between_files_that_hold_the_same(checkpoint: Any, out: Path) -> None:
    """A tensor in both shards, other than it was in the one that the index does not name."""
    expected = export_bundle(checkpoint.path, out / "single").manifest.files
    checkpoint.shard()
    weight_map = json.loads(checkpoint.index.read_text(encoding="utf-8"))["weight_map"]
    tensor = "encoder.norm.weight"
    for shard in set(weight_map.values()) - {weight_map[tensor]}:
        save_file(load_file(checkpoint.path / shard) | {tensor: torch.zeros(64)}, checkpoint.path / shard)
    assert export_bundle(checkpoint.path, out / "sharded").manifest.files == expected
