"""Whole bundles of every precision, for both targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from dlm_export.errors import CheckpointError, OptionError
from dlm_export.export_options import ExportOptions
from dlm_export.exporting import export_bundle
from dlm_export.verify import verify_bundle
from dlm_runtime.bundle import Bundle, EngineName, Precision

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8", "int4")
# ONNX Runtime's CPU provider runs halves by way of casts, but no products of bfloat16.
RUNNABLE: list[tuple[EngineName, Precision]] = [
    *(("onnxruntime", precision) for precision in PRECISIONS),
    *(("tensorrt-rtx", precision) for precision in ("fp16", "int8", "int4")),
]


@pytest.mark.parametrize(("target", "precision"), RUNNABLE)
@pytest.mark.parametrize("tied", [False, True])
def test_verifies(checkpoint: Any, out: Path, target: EngineName, precision: Precision, tied: bool) -> None:
    if tied:
        checkpoint.tie()
    report = export_bundle(checkpoint.path, out, ExportOptions(precision=precision, target=target))
    assert report.manifest.precision == precision
    assert report.manifest.opset == 18 or target == "tensorrt-rtx"
    verified = verify_bundle(out, checkpoint.path)
    assert verified.passed, verified


def test_sizes_fall_with_the_precision(golden_checkpoint: Path, out: Path) -> None:
    sizes = [
        export_bundle(golden_checkpoint, out, ExportOptions(precision=precision, embedding_precision="int8"), force=True).size_bytes
        for precision in ("fp32", "fp16", "int8", "int4")
    ]
    assert sizes == sorted(sizes, reverse=True)


def test_bf16_for_tensorrt_computes_and_keeps_bf16(golden_checkpoint: Path, out: Path) -> None:
    report = export_bundle(golden_checkpoint, out, ExportOptions(precision="bf16", target="tensorrt-rtx"))
    assert report.manifest.cache_type == "bfloat16"
    model = onnx.load(Bundle.load(out).model_path)
    types = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert {types["past.0.key"], types["present.1.value"]} == {onnx.TensorProto.BFLOAT16}
    assert types["logits"] == onnx.TensorProto.FLOAT


@pytest.mark.parametrize(("target", "domains"), [("onnxruntime", {"", "dlm", "com.microsoft"}), ("tensorrt-rtx", {"", "dlm"})])
def test_int4_brings_the_operator_sets_it_needs(golden_checkpoint: Path, out: Path, target: EngineName, domains: set[str]) -> None:
    export_bundle(golden_checkpoint, out, ExportOptions(precision="int4", target=target))
    model = onnx.load(Bundle.load(out).model_path)
    assert {imported.domain for imported in model.opset_import} == domains


def test_each_part_has_its_own_precision(golden_checkpoint: Path, out: Path) -> None:
    options = ExportOptions(precision="int4", embedding_precision="bf16", head_precision="int8", kept_layers=("layers.0.*",))
    manifest = export_bundle(golden_checkpoint, out, options).manifest
    assert (manifest.precision, manifest.embedding_precision, manifest.head_precision) == ("int4", "bf16", "int8")
    assert manifest.kept_layers == ("layers.0.*",)
    nodes = {node.name: node.op_type for node in onnx.load(Bundle.load(out).model_path).graph.node}
    assert (nodes["layers.0.mlp.down_proj"], nodes["layers.1.mlp.down_proj"]) == ("MatMul", "MatMulNBits")
    assert nodes["logits.product_int32"] == "MatMulInteger"
    assert verify_bundle(out, golden_checkpoint).passed


def test_a_pattern_that_matches_nothing_leaves_no_bundle(golden_checkpoint: Path, out: Path) -> None:
    with pytest.raises(OptionError, match=r"--keep-fp32 layers\.9\.\*: .*layers\.0\.self_attn\.qkv_proj"):
        export_bundle(golden_checkpoint, out, ExportOptions(precision="int8", kept_layers=("layers.1.*", "layers.9.*")))
    assert not out.exists()


@pytest.mark.parametrize(("key", "named"), [("encoder.layers.1.mlp.up_proj.weight",) * 2, ("encoder.embed_tokens.weight",) * 2])
def test_fp16_overflow_names_file_and_tensor(checkpoint: Any, out: Path, key: str, named: str) -> None:
    """Also where the graph has fused the tensor with others."""

    def spoil(tensors: dict[str, Any]) -> None:
        tensors[key] = tensors[key].float()
        tensors[key][3, 5] = 1e5

    checkpoint.tensors(spoil)
    with pytest.raises(CheckpointError, match=r"holds 100000, and fp16 ends at 65504.*bf16") as raised:
        export_bundle(checkpoint.path, out, ExportOptions(precision="fp16"))
    assert (raised.value.file.name, raised.value.item) == ("model.safetensors", named)
    assert not out.exists()
    export_bundle(checkpoint.path, out, ExportOptions(precision="bf16"))
