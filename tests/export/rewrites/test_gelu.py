"""Gelu, both forms: one operator of the same numbers, and another formula stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from dlm_export.graph.activation import gelu
from dlm_export.graph.builder import GraphBuilder
from dlm_export.rewrites.gelu import ERF_GELU, TANH_GELU
from onnx import NodeProto, TensorProto, helper

TOLERANCE = 2e-6  # on numbers up to 6, float32
FORMS = pytest.mark.parametrize(("tanh", "rewrite"), [(False, ERF_GELU), (True, TANH_GELU)], ids=["erf", "tanh"])


def gelu_graph(*, tanh: bool) -> GraphBuilder:
    b = GraphBuilder()
    b.input("x", TensorProto.FLOAT, ["B", 33])
    gelu(b, "x", "y", tanh=tanh)
    b.output("y", TensorProto.FLOAT, ["B", 33])
    return b


def node_called(b: GraphBuilder, name: str) -> NodeProto:
    return next(node for node in b.nodes if node.name == name)


@FORMS
def test_fires(rewritten: Callable[..., Any], tanh: bool, rewrite: Any) -> None:
    trial = rewritten(gelu_graph(tanh=tanh), rewrite)
    assert trial.outcome.fired == 1
    assert not trial.reasons()
    (node,) = trial.after.graph.node
    assert (node.op_type, node.name, list(node.input), list(node.output)) == ("Gelu", "y", ["x"], ["y"])
    assert not trial.after.graph.initializer
    x = np.random.default_rng(0).normal(0, 2, (3, 33)).astype(np.float32)
    assert trial.largest_difference({"x": x}) <= TOLERANCE


@FORMS
def test_does_not_fire_where_a_number_is_another(rewritten: Callable[..., Any], tanh: bool, rewrite: Any) -> None:
    b = gelu_graph(tanh=tanh)
    node_called(b, "y").input[1] = b.constant(0.25)
    trial = rewritten(b, rewrite)
    assert trial.outcome.fired == 0
    assert trial.reasons() == ["the formula has 0.5 where the graph has 0.25"]


def test_does_not_fire_where_a_number_is_computed(rewritten: Callable[..., Any]) -> None:
    b = gelu_graph(tanh=False)
    b.input("slope", TensorProto.FLOAT, [])
    node_called(b, "y.scaled").input[1] = "slope"
    assert rewritten(b, ERF_GELU).reasons() == ["the formula has 1.41421 where the graph has a value that is no constant"]


def test_does_not_fire_where_a_part_is_used_elsewhere(rewritten: Callable[..., Any]) -> None:
    b = gelu_graph(tanh=False)
    b.output("y.erf", TensorProto.FLOAT, ["B", 33])
    trial = rewritten(b, ERF_GELU)
    assert trial.outcome.fired == 0
    assert trial.reasons() == ["a part of it is used elsewhere"]
    assert trial.outcome.misses[0].first == "y"


def test_another_tanh_is_no_candidate(rewritten: Callable[..., Any]) -> None:
    """Soft-capping has one."""
    b = GraphBuilder()
    b.input("x", TensorProto.FLOAT, ["B", 33])
    b.nodes.append(helper.make_node("Mul", ["bent", b.constant(30.0)], ["y"], name="y"))
    b.nodes.insert(0, helper.make_node("Tanh", ["x"], ["bent"], name="bent"))
    b.output("y", TensorProto.FLOAT, ["B", 33])
    trial = rewritten(b, TANH_GELU)
    assert (trial.outcome.fired, trial.reasons()) == (0, [])
