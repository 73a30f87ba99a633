"""Linear layers of every precision, each in a graph of its own, against the same product in numpy."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from dlm_export.graph.builder import GraphBuilder
from dlm_export.precision.blocks import BlockWeight, quantize_blocks
from dlm_export.precision.float32 import Float32Linear
from dlm_export.precision.float_types import BF16, FP16
from dlm_export.precision.half import HalfLinear
from dlm_export.precision.int4 import Int4Linear
from dlm_export.precision.int8 import Int8Linear
from dlm_export.precision.linear import LinearWriter
from dlm_export.precision.overflow import HalfOverflow
from dlm_export.precision.stored_half import StoredHalfLinear
from dlm_export.precision.weight_only import Int4WeightLinear, Int8WeightLinear, quantize_columns
from dlm_export.weights import LinearWeight
from onnx import TensorProto, helper

RNG = np.random.default_rng(0)
MATRIX = RNG.normal(0, RNG.uniform(0.1, 3, 24), (48, 24)).astype(np.float32)  # 48 inputs are a block and a half
SHAPES = [(1, 1, 48), (3, 5, 48), (2, 33, 48)]


def linear_model(writer: LinearWriter, matrix: np.ndarray, shape: list[str | int], like: str | None) -> onnx.ModelProto:
    b = GraphBuilder()
    b.input("x", TensorProto.FLOAT, shape)
    b.input("counters", TensorProto.INT64, ["B", "L"])
    writer.write(b, "x", LinearWeight("y", "w", matrix), like=like)
    b.output("y", TensorProto.FLOAT, [*shape[:-1], matrix.shape[1]])
    graph = helper.make_graph(b.nodes, "linear", b.inputs, b.outputs, list(b.initializers.values()))
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def run_linear(writer: LinearWriter, matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`x` [B, L, in], or loose rows [N, in]."""
    rows = x.ndim == 2
    model = linear_model(writer, matrix, ["N" if rows else "B", *([] if rows else ["L"]), x.shape[-1]], None if rows else "counters")
    options = onnxruntime.SessionOptions()
    # Left alone it turns weight-only products of halves into its own operator, which rounds activations too.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x, "counters": np.zeros(x.shape[:2], np.int64)})[0])


def unrounded(weight: BlockWeight, size_in: int) -> np.ndarray:
    values = weight.values * weight.scales.astype(np.float32)[..., None]
    return values.reshape(len(values), -1)[:, :size_in].T


def int8_columns(matrix: np.ndarray) -> np.ndarray:
    values, scales = quantize_columns(matrix)
    return values * scales.astype(np.float32)


WRITERS: dict[str, tuple[LinearWriter, Any, float]] = {  # writer, what its weights become, error of the rest relative to the largest result
    "fp32": (Float32Linear(), lambda m: m, 1e-6),
    "fp16 stored": (StoredHalfLinear(FP16), lambda m: m.astype(np.float16).astype(np.float32), 1e-6),
    "bf16 stored": (StoredHalfLinear(BF16), lambda m: m.astype(ml_dtypes.bfloat16).astype(np.float32), 1e-6),
    "int4": (Int4Linear(), lambda m: unrounded(quantize_blocks(m), len(m)), 0.02),
    "fp16": (HalfLinear(FP16), lambda m: m.astype(np.float16).astype(np.float32), 2e-3),
    "int8 weights": (Int8WeightLinear(), int8_columns, 2e-3),
    "int4 weights": (Int4WeightLinear(), lambda m: unrounded(quantize_blocks(m, np.float16), len(m)), 2e-3),
}


@pytest.mark.parametrize("shape", [*SHAPES, (7, 48)])
@pytest.mark.parametrize("name", WRITERS)
def test_graph_equals_plain_arithmetic(name: str, shape: tuple[int, ...]) -> None:
    writer, rounded, error = WRITERS[name]
    x = RNG.normal(0, 2, shape).astype(np.float32)
    expected = x @ rounded(MATRIX)
    np.testing.assert_allclose(run_linear(writer, MATRIX, x), expected, rtol=0, atol=error * np.abs(expected).max())


@pytest.mark.parametrize("name", WRITERS)
def test_the_operator_set_that_a_layer_asks_for(name: str) -> None:
    b = GraphBuilder()
    WRITERS[name][0].write(b, "x", LinearWeight("y", "w", MATRIX), like=None)
    assert b.lowest_opset == (21 if name.endswith(" weights") else 18)


@pytest.mark.parametrize("writer", [*(writer for writer, *_ in WRITERS.values()), Int8Linear()], ids=str)
def test_no_rows_at_all(writer: LinearWriter) -> None:
    """An expert that nobody elected."""
    assert run_linear(writer, MATRIX, np.zeros((0, 48), np.float32)).shape == (0, 24)


@pytest.mark.parametrize(("size_in", "size_out"), [(1, 1), (31, 7), (32, 5), (33, 31), (64, 2)])
@pytest.mark.parametrize("name", ["int4", "int4 weights", "int8 weights"])
def test_odd_sizes(name: str, size_in: int, size_out: int) -> None:
    writer, rounded, error = WRITERS[name]
    matrix, x = (RNG.normal(0, 1, shape).astype(np.float32) for shape in ((size_in, size_out), (2, 3, size_in)))
    expected = x @ rounded(matrix)
    np.testing.assert_allclose(run_linear(writer, matrix, x), expected, rtol=0, atol=error * max(np.abs(expected).max(), 1))


@pytest.mark.parametrize("writer", [Int8Linear(), Int4Linear()], ids=str)
def test_a_row_is_the_same_to_the_bit_in_any_company(writer: LinearWriter) -> None:
    x = RNG.normal(0, 1, (4, 9, 48)).astype(np.float32)
    together = run_linear(writer, MATRIX, x)
    np.testing.assert_array_equal(run_linear(writer, MATRIX, x[1:2]), together[1:2])
    np.testing.assert_array_equal(run_linear(writer, MATRIX, x[2:3, 4:5]), together[2:3, 4:5])


@pytest.mark.parametrize("writer", [StoredHalfLinear(FP16), HalfLinear(FP16)], ids=str)
def test_what_fp16_cannot_hold_is_refused(writer: LinearWriter) -> None:
    matrix = MATRIX.copy()
    matrix[3, 2] = -7e4
    with pytest.raises(HalfOverflow, match="w: 70000 is beyond"):
        linear_model(writer, matrix, ["N", 48], None)


def test_layers_that_read_the_same_value_share_its_cast() -> None:
    b = GraphBuilder()
    for name in "yz":
        HalfLinear(FP16).write(b, "x", LinearWeight(name, f"{name}.weight", MATRIX), like=None)
    assert [node.name for node in b.nodes if node.op_type == "Cast" and node.input[0] == "x"] == ["x.fp16"]
