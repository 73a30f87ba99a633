"""TensorRT for RTX builds what the rewrites write, and refuses what they refuse. Skipped where it is not installed; needs no GPU."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
import pytest
from dlm_export.graph.activation import gelu
from dlm_export.graph.builder import GraphBuilder
from dlm_export.rewrites import apply_rewrites
from dlm_export.targets import target_of
from onnx import ModelProto, TensorProto, helper

pytestmark = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")

SCRIPT = Path(__file__).with_name("rtx_build.py")
TARGET = target_of("tensorrt-rtx", "fp16")
HALF = TensorProto.FLOAT16


def model_of(b: GraphBuilder) -> ModelProto:
    graph = helper.make_graph(b.nodes, "part", b.inputs, b.outputs, list(b.initializers.values()))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", TARGET.opset)], ir_version=TARGET.ir_version)


def build(model: ModelProto, folder: Path) -> subprocess.CompletedProcess[str]:
    onnx.save_model(model, folder / "model.onnx")
    command = [sys.executable, str(SCRIPT), str(folder / "model.onnx")]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def builds(model: ModelProto, folder: Path) -> bool:
    """Whether an engine comes out."""
    done = build(model, folder)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]) > 0


def attention_model(
    *, kind: int = HALF, heads: int = 4, kv_heads: int = 2, size: int = 64, softmax_precision: int | None = None
) -> ModelProto:
    b = GraphBuilder()
    b.input("q", kind, ["B", heads, "L", size])
    for part in ("k", "v"):
        b.input(part, kind, ["B", kv_heads, "K", size])
    b.input("mask", kind, ["B", 1, "L", "K"])
    more: dict[str, Any] = {} if softmax_precision is None else {"softmax_precision": softmax_precision}
    b.output(b.op("Attention", ["q", "k", "v", "mask"], "y", scale=1.0, **more), kind, ["B", heads, "L", size])
    return model_of(b)


@pytest.mark.parametrize("kind", [HALF, TensorProto.BFLOAT16])
@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(4, 2, 64), (2, 1, 9), (3, 3, 256)])
def test_attention_builds_in_half_precision(tmp_path: Path, kind: int, heads: int, kv_heads: int, size: int) -> None:
    assert builds(attention_model(kind=kind, heads=heads, kv_heads=kv_heads, size=size), tmp_path)


@pytest.mark.parametrize(
    "model",
    [
        attention_model(kind=TensorProto.FLOAT),
        attention_model(heads=1, kv_heads=1),
        attention_model(size=8),
        attention_model(size=257),
        attention_model(softmax_precision=TensorProto.FLOAT),
    ],
    ids=["float32", "one head", "small heads", "large heads", "softmax precision"],
)
def test_what_the_rewrite_keeps_away_from_is_refused(tmp_path: Path, model: ModelProto) -> None:
    """If one of these builds with a newer TensorRT, the limits in targets/choices.py can be widened."""
    assert not builds(model, tmp_path)


def conditional_model(layers: int) -> ModelProto:
    """Attention in layers, and a conditional on what comes out of the last."""
    b = GraphBuilder()
    x = b.input("x", HALF, ["B", 2, "L", 16])
    for layer in range(layers):
        x = b.op("Attention", [x, x, x], f"layers.{layer}", scale=1.0)
    branches: dict[str, Any] = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(kind, [x], [name], axis=-1)], name, [], [helper.make_tensor_value_info(name, TensorProto.INT64, None)]
        )
        for name, kind in (("then", "ArgMax"), ("else", "ArgMin"))
    }
    b.input("likely", TensorProto.BOOL, [])
    b.output(b.op("If", ["likely"], "y", **branches), TensorProto.INT64, ["B", 2, "L", 1])
    return model_of(b)


def test_four_attentions_and_a_conditional_build(tmp_path: Path) -> None:
    assert builds(conditional_model(4), tmp_path)


def test_five_attentions_and_a_conditional_crash(tmp_path: Path) -> None:
    """Why RTX_ATTENTION is not among RTX_REWRITES; if it builds with a newer TensorRT, it can be."""
    assert build(conditional_model(5), tmp_path).returncode != 0


@pytest.mark.parametrize("tanh", [False, True])
def test_gelu_builds(tmp_path: Path, tanh: bool) -> None:
    b = GraphBuilder()
    gelu(b, b.input("x", TensorProto.FLOAT, ["B", 33]), "y", tanh=tanh)
    b.output("y", TensorProto.FLOAT, ["B", 33])
    model, _ = apply_rewrites(model_of(b), TARGET)
    assert [node.op_type for node in model.graph.node] == ["Gelu"]
    assert builds(model, tmp_path)
