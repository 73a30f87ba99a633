"""RMSNormalization: one operator of the same numbers, and other norms stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from dlm_export.graph.builder import GraphBuilder
from dlm_export.graph.context import GraphContext
from dlm_export.graph.norm import rms_norm
from dlm_export.rewrites.rms_normalization import RMS_NORMALIZATION
from onnx import NodeProto, TensorProto

RNG = np.random.default_rng(0)
TOLERANCE = 2e-6  # on numbers up to 10, float32
HEADS, SIZE = 6, 48
SHAPE = ["B", "L", HEADS, SIZE]


def norm_graph(weight: tuple[int, ...] | None = (SIZE,)) -> GraphBuilder:
    b = GraphBuilder()
    b.input("x", TensorProto.FLOAT, SHAPE)
    name = None if weight is None else b.weight("w", RNG.normal(1, 0.3, weight).astype(np.float32))
    rms_norm(cast(GraphContext, SimpleNamespace(b=b)), "x", name, 1e-5, "y")
    b.output("y", TensorProto.FLOAT, SHAPE)
    return b


def node_called(b: GraphBuilder, name: str) -> NodeProto:
    return next(node for node in b.nodes if node.name == name)


@pytest.mark.parametrize("weight", [(SIZE,), (HEADS, SIZE), (1,)])
def test_fires(rewritten: Callable[..., Any], weight: tuple[int, ...]) -> None:
    """A table of weights, one row per head, is what norms queries and keys together."""
    trial = rewritten(norm_graph(weight), RMS_NORMALIZATION)
    assert trial.outcome.fired == 1
    (node,) = trial.after.graph.node
    assert (node.op_type, node.name, list(node.input), list(node.output)) == ("RMSNormalization", "y", ["x", "w"], ["y"])
    x = RNG.normal(0, 3, (2, 5, HEADS, SIZE)).astype(np.float32)
    x[0, 0] = 0
    assert trial.largest_difference({"x": x}) <= TOLERANCE


def test_does_not_fire_over_another_axis(rewritten: Callable[..., Any]) -> None:
    b = norm_graph()
    node_called(b, "y.mean_square").input[1] = b.constant([2])
    trial = rewritten(b, RMS_NORMALIZATION)
    assert trial.outcome.fired == 0
    assert trial.reasons() == ["the mean is not over the last axis"]


def test_fires_where_the_last_axis_is_counted_from_the_first(rewritten: Callable[..., Any]) -> None:
    b = norm_graph()
    node_called(b, "y.mean_square").input[1] = b.constant([3])
    assert rewritten(b, RMS_NORMALIZATION).outcome.fired == 1


def test_does_not_fire_where_epsilon_is_computed(rewritten: Callable[..., Any]) -> None:
    b = norm_graph()
    b.input("epsilon", TensorProto.FLOAT, [])
    node_called(b, "y.mean_square_eps").input[1] = "epsilon"
    assert rewritten(b, RMS_NORMALIZATION).reasons() == ["epsilon is not a constant"]


@pytest.mark.parametrize("weight", [(1, 1, 1, 1, SIZE), (3, 1, HEADS, SIZE)])
def test_does_not_fire_where_the_weight_is_larger(rewritten: Callable[..., Any], weight: tuple[int, ...]) -> None:
    b = norm_graph(weight)
    del b.outputs[:]
    b.output("y", TensorProto.FLOAT, ["A", *SHAPE] if len(weight) > 4 else ["C", *SHAPE[1:]])
    assert rewritten(b, RMS_NORMALIZATION).reasons() == ["the weight is not known to broadcast to the input"]


def test_does_not_fire_for_another_power(rewritten: Callable[..., Any]) -> None:
    b = norm_graph()
    node_called(b, "y.square").input[1] = b.constant(3.0)
    assert rewritten(b, RMS_NORMALIZATION).reasons() == ["what is averaged is not the square"]


def test_a_norm_without_weight_is_no_candidate(rewritten: Callable[..., Any]) -> None:
    """The operator needs a weight, and ones would be one product more."""
    trial = rewritten(norm_graph(None), RMS_NORMALIZATION)
    assert (trial.outcome.fired, trial.reasons()) == (0, [])
