"""Reading checkpoints, and what is said about broken ones."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dlm_export.checkpoint import Checkpoint
from dlm_export.errors import CheckpointError

UP = "encoder.layers.1.mlp.up_proj.weight"
UP_SHAPE = (160, 64)


def read_up(path: Path) -> np.ndarray:
    return Checkpoint.open(path).read(UP, UP_SHAPE)


def test_reads_bfloat16_as_float32(golden_checkpoint: Path) -> None:
    value = read_up(golden_checkpoint)
    assert value.dtype == np.float32
    assert value.shape == UP_SHAPE


def test_sharded_equals_single(golden_checkpoint: Path, checkpoint: Any) -> None:
    checkpoint.shard()
    np.testing.assert_array_equal(read_up(checkpoint.path), read_up(golden_checkpoint))


def test_missing_tensor_names_file_and_tensor(checkpoint: Any) -> None:
    checkpoint.tensors(lambda tensors: tensors.pop(UP))
    with pytest.raises(CheckpointError, match=r"model\.safetensors: encoder\.layers\.1\.mlp\.up_proj\.weight: is missing"):
        read_up(checkpoint.path)


def test_wrong_shape_names_both_shapes(checkpoint: Any) -> None:
    checkpoint.tensors(lambda tensors: tensors.update({UP: tensors[UP][:-1].clone()}))
    with pytest.raises(CheckpointError, match=r"up_proj\.weight: has shape \[159, 64\], config\.json asks for \[160, 64\]"):
        read_up(checkpoint.path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(checkpoint: Any, value: float) -> None:
    checkpoint.tensors(lambda tensors: tensors[UP].view(-1)[:3].fill_(value))
    with pytest.raises(CheckpointError, match=r"up_proj\.weight: holds 3 NaN or infinite values"):
        read_up(checkpoint.path)


def test_whole_numbers_are_no_weights(checkpoint: Any) -> None:
    checkpoint.tensors(lambda tensors: tensors.update({UP: torch.zeros(UP_SHAPE, dtype=torch.int32)}))
    with pytest.raises(CheckpointError, match=r"holds I32"):
        read_up(checkpoint.path)


def test_file_cut_short_names_the_tensor_that_is_not_there(checkpoint: Any) -> None:
    data = checkpoint.weights.read_bytes()
    checkpoint.weights.write_bytes(data[: len(data) - 10])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: .*weight: is cut short: the tensor ends at byte"):
        Checkpoint.open(checkpoint.path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"abc",
        struct.pack("<Q", 2**40) + b"{}",
        struct.pack("<Q", 4) + b"nope",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 99_999) + b"[" * 99_999,
    ],
)
def test_no_safetensors_at_all(checkpoint: Any, data: bytes) -> None:
    checkpoint.weights.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: (is cut short or no|has)"):
        Checkpoint.open(checkpoint.path)


def test_malformed_header_entry_names_the_tensor(checkpoint: Any) -> None:
    header = json.dumps({"a.weight": {"dtype": "F32"}}).encode()
    checkpoint.weights.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError, match=r"a\.weight: has a malformed header entry"):
        Checkpoint.open(checkpoint.path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.pt"])
def test_pickles_are_refused_with_the_reason(checkpoint: Any, name: str) -> None:
    checkpoint.weights.rename(checkpoint.path / name)
    with pytest.raises(CheckpointError, match=f"{name}: is a pickle, and loading a pickle runs whatever code is in it"):
        Checkpoint.open(checkpoint.path)


def test_no_weights(checkpoint: Any) -> None:
    checkpoint.weights.unlink()
    with pytest.raises(CheckpointError, match=r"holds neither model\.safetensors nor"):
        Checkpoint.open(checkpoint.path)


def test_missing_shard(checkpoint: Any) -> None:
    checkpoint.shard()
    (checkpoint.path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002\.safetensors: does not exist"):
        Checkpoint.open(checkpoint.path)


@pytest.mark.parametrize("index", ['{"weight_map": {"a": "../elsewhere.safetensors"}}', '{"weight_map": {}}', "[]", "{"])
def test_bad_index(checkpoint: Any, index: str) -> None:
    (checkpoint.path / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json"):
        Checkpoint.open(checkpoint.path)


@pytest.mark.parametrize("name", ["../elsewhere.safetensors", "/etc/passwd", "..", "", "a\\b", "a\0b"])
def test_index_that_leaves_the_folder(checkpoint: Any, name: str) -> None:
    (checkpoint.path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"index\.json: weight_map\.a: lists .* leaves the folder or names no file"):
        Checkpoint.open(checkpoint.path)


def test_index_of_pickles(checkpoint: Any) -> None:
    (checkpoint.path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "weights.bin"}}', encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"weights\.bin: is a pickle"):
        Checkpoint.open(checkpoint.path)


def test_bundle_where_a_checkpoint_should_be(golden_bundle_path: Path) -> None:
    with pytest.raises(CheckpointError, match="This is a bundle, not a checkpoint"):
        Checkpoint.open(golden_bundle_path)


@pytest.mark.parametrize("text", ["{", "[]", "\udcff", "[" * 100_000])
def test_bad_config(checkpoint: Any, text: str) -> None:
    (checkpoint.path / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Checkpoint.open(checkpoint.path)


def test_no_folder_and_no_config(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere: is not a folder"):
        Checkpoint.open(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"config\.json: does not exist"):
        Checkpoint.open(tmp_path)


def test_revision_is_the_snapshot_folder(checkpoint: Any, tmp_path: Path) -> None:
    assert Checkpoint.open(checkpoint.path).revision is None
    snapshot = tmp_path / "snapshots" / "0123abcd"
    snapshot.parent.mkdir()
    checkpoint.path.rename(snapshot)
    assert Checkpoint.open(snapshot).revision == "0123abcd"
