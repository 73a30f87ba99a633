"""8-bit linear layers: the rounding, and that a row's scale is its own."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from dlm_export.graph.builder import GraphBuilder
from dlm_export.precision.int8 import ROW_LIMIT, ROW_ZERO_POINT, WEIGHT_LIMIT, Int8Linear, quantize_weight
from dlm_export.weights import LinearWeight
from onnx import TensorProto, helper

RNG = np.random.default_rng(0)
MATRIX = RNG.normal(0, RNG.uniform(0.1, 3, 24), (48, 24)).astype(np.float32)


def run_linear(matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
    b = GraphBuilder()
    b.input("x", TensorProto.FLOAT, ["B", "L", matrix.shape[0]])
    b.input("counters", TensorProto.INT64, ["B", "L"])
    Int8Linear().write(b, "x", LinearWeight("y", "w", matrix), like="counters")
    b.output("y", TensorProto.FLOAT, ["B", "L", matrix.shape[1]])
    graph = helper.make_graph(b.nodes, "linear", b.inputs, b.outputs, list(b.initializers.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x, "counters": np.zeros(x.shape[:2], np.int64)})[0])


def plain_linear(matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The same in numpy, with exact whole-number arithmetic."""
    weight = quantize_weight(matrix)
    scale = np.maximum(np.abs(x).max(-1, keepdims=True), 1e-12) / ROW_LIMIT
    steps = np.rint(x / scale)
    return (steps @ weight.values.astype(np.float64)) * scale * weight.scales


def test_weight_columns_have_their_own_scale_and_round_within_half_a_step() -> None:
    weight = quantize_weight(MATRIX)
    assert weight.values.dtype == np.int8
    assert (np.abs(weight.values).max(0) == WEIGHT_LIMIT).all()
    assert (np.abs(weight.values * weight.scales - MATRIX) <= weight.scales * 0.501).all()


def test_a_column_of_zeros_stays_zero() -> None:
    weight = quantize_weight(np.zeros((4, 2), np.float32))
    assert not weight.values.any()
    assert np.isfinite(weight.scales).all()


def test_products_of_any_two_neighbours_fit_16_bits() -> None:
    """What keeps the result the same on processors that add pairs of products in saturating 16 bits."""
    assert 2 * (ROW_ZERO_POINT + ROW_LIMIT) * WEIGHT_LIMIT <= 2**15 - 1


@pytest.mark.parametrize("shape", [(1, 1, 48), (3, 5, 48), (2, 33, 48)])
def test_graph_equals_plain_arithmetic(shape: tuple[int, ...]) -> None:
    x = RNG.normal(0, 2, shape).astype(np.float32)
    x[0, 0] = 0
    expected = plain_linear(MATRIX, x)
    np.testing.assert_allclose(run_linear(MATRIX, x), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_error_is_small() -> None:
    x = RNG.normal(0, 1, (4, 16, 48)).astype(np.float32)
    exact = x @ MATRIX
    assert np.sqrt(np.square(run_linear(MATRIX, x) - exact).mean()) < 0.03 * exact.std()


def test_a_row_does_not_see_its_neighbours_magnitude() -> None:
    x = RNG.normal(0, 1, (2, 3, 48)).astype(np.float32)
    loud = x.copy()
    loud[0, 1:], loud[1] = 1e4, -1e3
    np.testing.assert_array_equal(run_linear(MATRIX, loud)[0, 0], run_linear(MATRIX, x)[0, 0])
