"""Weights in a file of their own: where they lie, that they are the same, and that the bundle knows of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from dlm_export import exporting
from dlm_export.export_options import ExportOptions
from dlm_export.exporting import export_bundle
from dlm_export.graph import weight_file
from dlm_export.graph.builder import SMALLEST_STORED_OUTSIDE, GraphBuilder
from dlm_export.graph.weight_file import ALIGNMENT_BYTES, WeightFile
from dlm_export.inspection import inspect_bundle
from dlm_export.verify import verify_bundle
from dlm_runtime.bundle import Bundle, Precision
from dlm_runtime.errors import BundleError
from onnx import TensorProto, helper, numpy_helper

DATA = "model.onnx.data"


def place_of(tensor: TensorProto) -> tuple[int, int]:
    """Offset and length of a tensor's bytes."""
    fields = {entry.key: entry.value for entry in tensor.external_data}
    assert fields["location"] == DATA
    assert tensor.data_location == TensorProto.EXTERNAL
    assert not tensor.HasField("raw_data")
    return int(fields["offset"]), int(fields["length"])


@pytest.fixture
def external(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every model were too large for protobuf."""
    monkeypatch.setattr(exporting, "INLINE_LIMIT_NUMBERS", 0)


@pytest.mark.parametrize("chunk_bytes", [None, 1000])
def test_bytes_lie_where_the_tensor_says_on_pages_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int | None
) -> None:
    if chunk_bytes is not None:
        monkeypatch.setattr(weight_file, "CHUNK_BYTES", chunk_bytes)
    rng = np.random.default_rng(0)
    arrays = {f"t{index}": rng.standard_normal((13, 80 + 97 * index), dtype=np.float32) for index in range(4)}
    arrays["whole"] = np.arange(1024, dtype=np.int64).reshape(32, 32).T  # not contiguous, and not float
    with WeightFile(tmp_path / DATA) as file:
        builder = GraphBuilder(file)
        for name, array in arrays.items():
            builder.weight(name, array)
    data, end = (tmp_path / DATA).read_bytes(), 0
    for name, array in arrays.items():
        offset, length = place_of(builder.initializers[name])
        assert offset % ALIGNMENT_BYTES == 0
        assert end <= offset < end + ALIGNMENT_BYTES
        assert data[offset : offset + length] == np.ascontiguousarray(array).tobytes()
        assert not any(data[end:offset])
        end = offset + length
    assert len(data) == end


def test_small_tensors_stay_in_the_graph(tmp_path: Path) -> None:
    with WeightFile(tmp_path / DATA) as file:
        builder = GraphBuilder(file)
        builder.weight("large", np.zeros(SMALLEST_STORED_OUTSIDE, np.uint8))
        builder.weight("small", np.zeros(SMALLEST_STORED_OUTSIDE - 1, np.uint8))
        builder.constant([2, 3])
    assert place_of(builder.initializers["large"]) == (0, SMALLEST_STORED_OUTSIDE)
    assert builder.initializers["small"].raw_data == bytes(SMALLEST_STORED_OUTSIDE - 1)
    assert numpy_helper.to_array(builder.initializers["const.ints.2_3"]).tolist() == [2, 3]


def test_nibbles_are_written_as_they_come(tmp_path: Path) -> None:
    with WeightFile(tmp_path / DATA) as file:
        builder = GraphBuilder(file)
        packed = np.arange(2048, dtype=np.uint32).astype(np.uint8)
        builder.packed_weight("w", packed, (64, 64), TensorProto.UINT4)
    tensor = builder.initializers["w"]
    assert (list(tensor.dims), tensor.data_type, place_of(tensor)) == ([64, 64], TensorProto.UINT4, (0, 2048))
    assert (tmp_path / DATA).read_bytes() == packed.tobytes()


def test_parts_that_come_one_by_one_are_one_tensor(tmp_path: Path) -> None:
    parts = [np.full((1, 40, 50), index, np.float32) for index in range(3)]
    with WeightFile(tmp_path / DATA) as file:
        builders = GraphBuilder(file), GraphBuilder()
        for builder in builders:
            builder.stacked_weight("w", iter(parts), (3, 40, 50), TensorProto.FLOAT)
    assert place_of(builders[0].initializers["w"]) == (0, 24_000)
    assert (tmp_path / DATA).read_bytes() == builders[1].initializers["w"].raw_data == np.concatenate(parts).tobytes()


def test_a_model_of_such_tensors_is_one_that_onnx_reads(tmp_path: Path) -> None:
    table = np.arange(3000, dtype=np.float32).reshape(30, 100)
    with WeightFile(tmp_path / DATA) as file:
        builder = GraphBuilder(file)
        builder.output(builder.op("Identity", [builder.weight("t", table)], "y"), TensorProto.FLOAT, [30, 100])
    graph = helper.make_graph(builder.nodes, "g", [], builder.outputs, list(builder.initializers.values()))
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), tmp_path / "model.onnx")
    onnx.checker.check_model(tmp_path / "model.onnx")
    loaded = onnx.load(tmp_path / "model.onnx")
    np.testing.assert_array_equal(numpy_helper.to_array(loaded.graph.initializer[0]), table)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", ["nemotron_labs_diffusion", "llada2", "a2d_qwen3", "bert"])
def test_same_numbers_as_inside(
    golden_copy: Callable[[str], Any], out: Path, monkeypatch: pytest.MonkeyPatch, name: str, precision: Precision
) -> None:
    """Experts, a tied head and fused matrices too; nothing of the graph but the place of its weights is another."""
    path, options = golden_copy(name).path, ExportOptions(precision=precision)
    export_bundle(path, out / "inside", options)
    monkeypatch.setattr(exporting, "INLINE_LIMIT_NUMBERS", 0)
    manifest = export_bundle(path, out / "beside", options).manifest
    assert set(manifest.files) == {"model.onnx", DATA}
    inside, beside = (onnx.load(out / place / "model.onnx") for place in ("inside", "beside"))
    assert [tensor.name for tensor in inside.graph.initializer] == [tensor.name for tensor in beside.graph.initializer]
    for one, other in zip(inside.graph.initializer, beside.graph.initializer, strict=True):
        assert (one.dims, one.data_type) == (other.dims, other.data_type)
        assert numpy_helper.to_array(one).tobytes() == numpy_helper.to_array(other).tobytes()
    assert inside.graph.node == beside.graph.node


@pytest.mark.usefixtures("external")
@pytest.mark.parametrize("name", ["nemotron_labs_diffusion", "llada_moe", "modernbert"])
def test_the_bundle_lists_loads_and_verifies(golden_copy: Callable[[str], Any], out: Path, name: str) -> None:
    path = golden_copy(name).path
    report = export_bundle(path, out)
    bundle = Bundle.load(out)
    assert set(bundle.manifest.files) == {"model.onnx", DATA}
    assert report.size_bytes == sum(file.stat().st_size for file in out.iterdir())
    assert verify_bundle(out, path).passed
    inspection = inspect_bundle(out)
    assert set(inspection.file_bytes) == {"manifest.json", "model.onnx", DATA}
    assert inspection.parameters > 50_000


@pytest.mark.usefixtures("external")
def test_a_changed_or_missing_data_file_is_told(checkpoint: Any, out: Path) -> None:
    export_bundle(checkpoint.path, out)
    with (out / DATA).open("r+b") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=r"model\.onnx\.data.* has sha256"):
        Bundle.load(out)
    (out / DATA).unlink()
    with pytest.raises(BundleError, match=r"model\.onnx\.data"):
        Bundle.load(out)


@pytest.mark.usefixtures("external")
def test_same_weights_give_the_same_files_to_the_bit(checkpoint: Any, out: Path) -> None:
    first = export_bundle(checkpoint.path, out / "first").manifest
    checkpoint.shard()
    assert export_bundle(checkpoint.path, out / "second").manifest.files == first.files


@pytest.mark.usefixtures("external")
def test_no_weight_is_kept_in_memory(checkpoint: Any, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model that is built holds small tensors alone."""
    kept: list[int] = []
    save = onnx.save_model

    def watching(model: onnx.ModelProto, path: Path) -> None:
        kept.extend(len(tensor.raw_data) for tensor in model.graph.initializer)
        save(model, path)

    monkeypatch.setattr(onnx, "save_model", watching)
    export_bundle(checkpoint.path, out)
    assert max(kept) < 4 * SMALLEST_STORED_OUTSIDE
