"""What applying rewrites leaves alone: weights in and beside the model, functions, attributes, names; and what it reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from dlm_export.graph.activation import gelu
from dlm_export.graph.builder import GraphBuilder
from dlm_export.graph.weight_file import WeightFile
from dlm_export.rewrites import Miss, RewriteOutcome, RewriteReport, apply_rewrites
from dlm_export.rewrites.gelu import ERF_GELU
from dlm_export.rewrites.report import grouped
from dlm_export.rewrites.skeleton import SMALL_NUMBERS, skeleton_of
from dlm_export.targets import AppliedRewrite, ExportTarget, target_of
from onnx import ModelProto, NodeProto, TensorProto, helper, parser

WIDTH = 48
WEIGHT = np.random.default_rng(0).normal(0, 0.1, (WIDTH, WIDTH)).astype(np.float32)
TARGET = ExportTarget("tensorrt-rtx", "fp32", 23, 11, "for this test", (AppliedRewrite(ERF_GELU, "for this test"),))
TWICE = '<domain: "dlm", opset_import: ["" : 23]> Twice <factor> (x) => (y) { y = Add (x, x) }'


def feed_forward(weight_file: WeightFile | None = None, *, calls: int = 2) -> ModelProto:
    """x -> product -> GELU, a few times over, and then a call of a function that a plugin may replace."""
    b = GraphBuilder(weight_file)
    x = b.input("x", TensorProto.FLOAT, ["B", WIDTH])
    for index in range(calls):
        x = gelu(b, b.op("MatMul", [x, b.weight(f"w.{index}", WEIGHT)], f"up.{index}"), f"bent.{index}", tanh=False)
    b.op("Twice", [x], "y", domain="dlm", factor=2, plugin_namespace="dlm", plugin_version="1")
    b.output("y", TensorProto.FLOAT, ["B", WIDTH])
    graph = helper.make_graph(b.nodes, "step", b.inputs, b.outputs, list(b.initializers.values()), doc_string="a graph")
    model = helper.make_model(
        graph,
        functions=[parser.parse_function(TWICE)],
        opset_imports=[helper.make_opsetid("", 23), helper.make_opsetid("dlm", 1)],
        ir_version=11,
        producer_name="dlm-export",
    )
    helper.set_model_props(model, {"written by": "a test"})
    return model


def without_nodes(model: ModelProto) -> ModelProto:
    """All that a rewrite may not change: the model without nodes and constants."""
    rest = ModelProto()
    rest.CopyFrom(model)
    del rest.graph.node[:]
    weights = [tensor for tensor in rest.graph.initializer if not tensor.name.startswith("const.")]
    del rest.graph.initializer[:]
    rest.graph.initializer.extend(weights)
    return rest


def nodes_by_name(model: ModelProto) -> dict[str, NodeProto]:
    return {node.name: node for node in model.graph.node}


def test_nothing_but_the_rewritten_nodes_changes() -> None:
    before, model = feed_forward(), feed_forward()
    after, report = apply_rewrites(model, TARGET)
    assert after is model
    assert report.fired("gelu") == 2
    onnx.checker.check_model(after, full_check=True)
    assert without_nodes(after).SerializeToString(deterministic=True) == without_nodes(before).SerializeToString(deterministic=True)
    kept, originals = nodes_by_name(after), nodes_by_name(before)
    assert list(kept) == ["up.0", "bent.0", "up.1", "bent.1", "y"]
    assert all(kept[name] == originals[name] for name in ("up.0", "up.1", "y"))
    assert [attribute.name for attribute in kept["y"].attribute] == ["factor", "plugin_namespace", "plugin_version"]


def test_a_model_that_no_rule_fits_stays_the_same_to_the_byte() -> None:
    before, model = feed_forward(calls=0), feed_forward(calls=0)
    after, report = apply_rewrites(model, TARGET)
    assert after.SerializeToString(deterministic=True) == before.SerializeToString(deterministic=True)
    assert report == RewriteReport((RewriteOutcome("gelu", 0),))
    assert report.sentences() == ()


def test_constants_that_others_read_stay() -> None:
    model = feed_forward(calls=1)
    model.graph.node.append(helper.make_node("Mul", ["y", "const.float32.0.5"], ["less"]))
    model.graph.output.append(helper.make_tensor_value_info("less", TensorProto.FLOAT, ["B", WIDTH]))
    after, _ = apply_rewrites(model, TARGET)
    assert [tensor.name for tensor in after.graph.initializer if tensor.name.startswith("const.")] == ["const.float32.0.5"]


def test_weights_beside_the_model_are_not_even_opened(tmp_path: Path) -> None:
    """The model is rewritten while its weight file is away, and runs once it is back."""
    data, away = tmp_path / "model.onnx.data", tmp_path / "away"
    with WeightFile(data) as weight_file:
        model = feed_forward(weight_file)
    written = data.read_bytes()
    data.rename(away)
    after, report = apply_rewrites(model, TARGET)
    assert report.fired("gelu") == 2
    onnx.save_model(after, tmp_path / "model.onnx")
    away.rename(data)
    assert data.read_bytes() == written
    onnx.checker.check_model(tmp_path / "model.onnx", full_check=True)
    loaded = onnx.load(tmp_path / "model.onnx")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(loaded.graph.initializer[0]), WEIGHT)


def test_the_skeleton_has_no_weight_however_it_is_stored() -> None:
    skeleton = skeleton_of(feed_forward())
    assert WEIGHT.size > SMALL_NUMBERS
    assert not any(name.startswith("w.") for name in skeleton.graph.initializers)
    weight = next(value for value in skeleton.graph.inputs if value.name == "w.0")
    assert weight.const_value is None
    assert list(weight.shape or ()) == [WIDTH, WIDTH]
    assert not skeleton.functions


def test_a_model_of_another_operator_set_is_refused() -> None:
    with pytest.raises(ValueError, match="operator set 23, the target onnxruntime in fp32 18"):
        apply_rewrites(feed_forward(), target_of("onnxruntime", "fp32"))


def test_a_target_without_rewrites_leaves_the_model_alone() -> None:
    model = feed_forward()
    model.opset_import[0].version = 18
    assert apply_rewrites(model, target_of("onnxruntime", "fp32")) == (model, RewriteReport())


def test_misses_of_one_reason_are_counted_together() -> None:
    misses = grouped([("a", "too large"), ("b", "too small"), ("c", "too large")])
    assert misses == (Miss("too large", 2, "a"), Miss("too small", 1, "b"))


def test_the_report_speaks_in_sentences_and_in_json() -> None:
    report = RewriteReport((RewriteOutcome("gelu", 1, (Miss("too large", 2, "a"),)), RewriteOutcome("attention", 0)))
    assert report.sentences() == ("gelu: 1 place rewritten, 2 left (too large; first a)",)
    assert report.to_json() == [
        {"name": "gelu", "fired": 1, "missed": [{"reason": "too large", "count": 2, "first": "a"}]},
        {"name": "attention", "fired": 0, "missed": []},
    ]
