"""The two tables of the vocabulary: the embedding, and a head that may be tied to it."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from dlm_export.graph.builder import GraphBuilder
from dlm_export.precision import PrecisionChoice
from dlm_export.weights import LinearWeight
from dlm_runtime.bundle import EngineName, Precision
from onnx import TensorProto, helper

RNG = np.random.default_rng(0)
TABLE = RNG.normal(0, RNG.uniform(0.1, 3, (40, 1)), (40, 32)).astype(np.float32)
ERRORS: dict[Precision, float] = {"fp32": 0, "fp16": 0.001, "bf16": 0.005, "int8": 0.005}  # relative to a row's peak


def tables(choice: PrecisionChoice) -> GraphBuilder:
    """An embedding and a head tied to it."""
    arithmetic, b = choice.arithmetic(), GraphBuilder()
    b.input("ids", TensorProto.INT64, ["B", "L"])
    arithmetic.embedding.write(b, "table", TABLE, "ids", "x")
    head = LinearWeight("logits", "table", TABLE.T, is_head=True)
    arithmetic.writer(head).write(b, "x", head, like="ids")
    for name, width in (("x", 32), ("logits", 40)):
        b.output(name, TensorProto.FLOAT, ["B", "L", width])
    return b


def run(b: GraphBuilder, ids: np.ndarray) -> list[np.ndarray]:
    graph = helper.make_graph(b.nodes, "tables", b.inputs, b.outputs, list(b.initializers.values()))
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model)
    return [np.asarray(value) for value in onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"ids": ids})]


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt-rtx"])
@pytest.mark.parametrize("precision", ERRORS)
def test_looked_up_rows(precision: Precision, target: EngineName) -> None:
    ids = RNG.integers(0, 40, (3, 5))
    x, logits = run(tables(PrecisionChoice(embedding=precision, target=target)), ids)
    assert x.dtype == np.float32
    assert (np.abs(x - TABLE[ids]) <= ERRORS[precision] * np.abs(TABLE[ids]).max(-1, keepdims=True)).all()
    np.testing.assert_allclose(logits, x @ TABLE.T, rtol=0, atol=1e-4 * np.abs(logits).max())


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt-rtx"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_tied_head_of_the_same_type_is_not_stored_twice(precision: Precision, target: EngineName) -> None:
    b = tables(PrecisionChoice(precision, target=target))
    assert list(b.initializers) == ["table"]


@pytest.mark.parametrize(
    ("embedding", "head"), [("fp32", "fp16"), ("fp16", "fp32"), ("bf16", "fp16"), ("int8", "fp32"), ("int8", "int8"), ("fp16", "int4")]
)
def test_a_tied_head_of_another_type_is_stored_by_itself(embedding: Precision, head: Precision) -> None:
    ids = RNG.integers(0, 40, (2, 3))
    b = tables(PrecisionChoice(embedding=embedding, head=head))
    stored = [tensor for tensor in b.initializers.values() if np.prod(tensor.dims) >= TABLE.size // 2]
    assert len(stored) == 2
    x, logits = run(b, ids)
    np.testing.assert_allclose(logits, x @ TABLE.T, rtol=0, atol=0.1 * np.abs(logits).max())
