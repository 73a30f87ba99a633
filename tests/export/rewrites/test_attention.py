"""Attention: one operator of the same numbers in half precision, and what has no kernel stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx
import pytest
from dlm_export.graph.attention import build_attention
from dlm_export.graph.builder import GraphBuilder
from dlm_export.graph.context import GraphContext
from dlm_export.graph.mask import additive_bias
from dlm_export.precision import Arithmetic
from dlm_export.rewrites.attention import AttentionKernels, attention
from dlm_export.weights import WeightReader
from onnx import NodeProto, TensorProto

RNG = np.random.default_rng(0)
TOLERANCE = 4e-3  # float16 keeps 11 bits; values and results are up to 4
LAYERS, LENGTH, PAST = 2, 7, 5
ANY = attention(AttentionKernels(1, 512))


def attention_graph(cache_type: int, *, heads: int = 4, kv_heads: int = 2, size: int = 16) -> GraphBuilder:
    """Two layers that share a mask."""
    b = GraphBuilder()
    backbone = SimpleNamespace(heads=heads, cache_shape=lambda layer: (kv_heads, size))
    g = GraphContext(b, cast(WeightReader, SimpleNamespace(backbone=backbone)), Arithmetic(cache_type=cache_type))
    bias = additive_bias(b, b.input("visible", TensorProto.BOOL, ["B", "L", "K"]), query_groups=heads // kv_heads)
    for layer in range(LAYERS):
        for part, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            b.input(f"{part}.{layer}", TensorProto.FLOAT, ["B", "L", count, size])
        for part in ("key", "value"):
            b.input(f"past.{layer}.{part}", cache_type, ["B", kv_heads, "P", size])
        joined = build_attention(g, layer, f"q.{layer}", f"k.{layer}", f"v.{layer}", bias, at=f"layers.{layer}")
        b.output(joined, TensorProto.FLOAT, ["B", "L", heads * size])
        for part in ("key", "value"):
            b.output(f"present.{layer}.{part}", cache_type, ["B", kv_heads, "L", size])
    return b


def feeds_of(b: GraphBuilder) -> dict[str, np.ndarray]:
    """Random numbers, queries scaled, and a mask in which every query sees itself and about half of the rest."""
    sizes = {"B": 3, "L": LENGTH, "P": PAST, "K": LENGTH + PAST}
    feeds = {}
    for value in b.inputs:
        tensor = value.type.tensor_type
        shape = [dimension.dim_value or sizes[dimension.dim_param] for dimension in tensor.shape.dim]
        scale = shape[-1] ** -0.5 if value.name.startswith("q.") else 1.0
        feeds[value.name] = RNG.normal(0, scale, shape).astype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    itself = np.eye(LENGTH, LENGTH + PAST, dtype=bool)
    return feeds | {"visible": (RNG.random((3, LENGTH, LENGTH + PAST)) < 0.5) | itself}


def node_called(b: GraphBuilder, name: str) -> NodeProto:
    return next(node for node in b.nodes if node.name == name)


@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(4, 2, 16), (3, 3, 20), (6, 1, 9), (1, 1, 8)])
def test_fires_in_float16(rewritten: Callable[..., Any], heads: int, kv_heads: int, size: int) -> None:
    b = attention_graph(TensorProto.FLOAT16, heads=heads, kv_heads=kv_heads, size=size)
    trial = rewritten(b, ANY)
    assert trial.outcome.fired == LAYERS
    assert not trial.reasons()
    assert trial.kinds.count("Attention") == LAYERS
    assert not {"MatMul", "Softmax"} & set(trial.kinds)
    assert trial.largest_difference(feeds_of(b)) <= TOLERANCE


def test_the_operator_takes_the_place_and_the_name_of_the_last_product(rewritten: Callable[..., Any]) -> None:
    trial = rewritten(attention_graph(TensorProto.FLOAT16), ANY)
    nodes = {node.name: node for node in trial.after.graph.node}
    node = nodes["layers.0.mixed"]
    assert (node.op_type, list(node.output)) == ("Attention", ["layers.0.mixed"])
    assert list(node.input) == ["layers.0.q_heads.float16", "layers.0.keys", "layers.0.values", "mask.per_head.float16"]
    assert [(attribute.name, attribute.f) for attribute in node.attribute] == [("scale", 1.0)]
    assert (nodes["layers.0.per_head"].op_type, list(nodes["layers.0.per_head"].output)) == ("Cast", ["layers.0.per_head"])


def test_the_mask_is_cast_once_for_all_layers_and_stacked_no_more(rewritten: Callable[..., Any]) -> None:
    names = [node.name for node in rewritten(attention_graph(TensorProto.FLOAT16), ANY).after.graph.node]
    assert names.count("mask.per_head.float16") == 1
    assert "mask.stacked" not in names


def test_fires_in_bfloat16(rewritten: Callable[..., Any]) -> None:
    """ONNX Runtime has no such kernel on the CPU: form and types alone are looked at."""
    trial = rewritten(attention_graph(TensorProto.BFLOAT16), ANY)
    assert trial.outcome.fired == LAYERS


def test_does_not_fire_in_float32(rewritten: Callable[..., Any]) -> None:
    trial = rewritten(attention_graph(TensorProto.FLOAT), ANY)
    assert trial.outcome.fired == 0
    (miss,) = trial.outcome.misses
    assert miss.reason == "products are in float32: there are kernels for float16 and bfloat16 alone"
    assert (miss.count, miss.first) == (LAYERS, "layers.0.per_head")


@pytest.mark.parametrize("size", [8, 40])
def test_does_not_fire_for_heads_without_a_kernel(rewritten: Callable[..., Any], size: int) -> None:
    trial = rewritten(attention_graph(TensorProto.FLOAT16, size=size), attention(AttentionKernels(9, 32)))
    assert trial.reasons() == [f"heads of size {size}: there are kernels for 9 to 32"]


def test_does_not_fire_for_fewer_heads_than_have_a_kernel(rewritten: Callable[..., Any]) -> None:
    trial = rewritten(attention_graph(TensorProto.FLOAT16, heads=1, kv_heads=1), attention(AttentionKernels(9, 32, fewest_heads=2)))
    assert trial.reasons() == ["1 query head: there are kernels for 2 and more"]


def test_does_not_fire_where_heads_of_a_group_have_masks_of_their_own(rewritten: Callable[..., Any]) -> None:
    b = attention_graph(TensorProto.FLOAT16)
    b.input("other", TensorProto.FLOAT, ["B", 1, "L", "K"])
    node_called(b, "mask.stacked").input[1] = "other"
    trial = rewritten(b, ANY)
    assert trial.outcome.fired == 0
    assert trial.reasons() == ["the mask is not one and the same for all queries of a key head"]


def test_does_not_fire_where_heads_are_stacked_otherwise(rewritten: Callable[..., Any]) -> None:
    b = attention_graph(TensorProto.FLOAT16)
    node_called(b, "layers.0.per_head").input[1] = b.constant([0, 2, -1, 32])
    trial = rewritten(b, ANY)
    assert trial.outcome.fired == 1
    assert trial.reasons() == ["heads are not stacked by their key heads"]


def test_does_not_fire_where_the_mask_has_fewer_dimensions(rewritten: Callable[..., Any]) -> None:
    """The operator would line up its dimensions otherwise."""
    b = attention_graph(TensorProto.FLOAT16, heads=2, kv_heads=2)
    b.input("flat", TensorProto.FLOAT, ["L", "K"])
    node_called(b, "layers.1.masked_scores").input[1] = "flat"
    trial = rewritten(b, ANY)
    assert trial.outcome.fired == 1
    assert trial.reasons() == ["queries, keys, values and mask are not all known to have four dimensions"]


def test_does_not_fire_where_probabilities_are_wanted(rewritten: Callable[..., Any]) -> None:
    b = attention_graph(TensorProto.FLOAT16)
    b.output("layers.1.probabilities", TensorProto.FLOAT, ["B", 2, "R", "K"])
    trial = rewritten(b, ANY)
    assert trial.outcome.fired == 1
    assert trial.reasons() == ["a part of it is used elsewhere"]


def test_does_not_fire_where_scores_are_capped(rewritten: Callable[..., Any]) -> None:
    b = attention_graph(TensorProto.FLOAT16)
    b.op("Tanh", ["layers.1.scores.wide"], "capped")
    b.nodes.insert(b.nodes.index(node_called(b, "layers.1.masked_scores")), b.nodes.pop())
    node_called(b, "layers.1.masked_scores").input[0] = "capped"
    trial = rewritten(b, ANY)
    assert trial.outcome.fired == 1
    assert trial.reasons()[0].startswith("it is written otherwise: ")


def test_a_softmax_without_mask_is_no_candidate(rewritten: Callable[..., Any]) -> None:
    """Routers and means over a vocabulary have one."""
    b = GraphBuilder()
    b.input("x", TensorProto.FLOAT, ["N", 8])
    b.input("table", TensorProto.FLOAT, [8, 4])
    b.op("MatMul", [b.op("Softmax", ["x"], "shares", axis=-1), "table"], "mean")
    b.output("mean", TensorProto.FLOAT, ["N", 4])
    trial = rewritten(b, ANY)
    assert (trial.outcome.fired, trial.reasons()) == (0, [])


@pytest.mark.parametrize(("limits", "problem"), [((9, 8, 1), "from 9 to 8"), ((9, 16, 0), "fewest_heads=0")])
def test_limits_are_checked(limits: tuple[int, int, int], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        AttentionKernels(*limits)
