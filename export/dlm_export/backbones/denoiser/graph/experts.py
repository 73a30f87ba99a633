"""Mixture of experts in standard operators.

Each expert runs on the rows of the tokens that elected it, all experts in one batched product: every expert has as many places as the
busiest one needs, and places that stay empty hold some row whose result nobody reads. A node for every expert would compute less, but a
published checkpoint has thousands of them, and ONNX Runtime takes minutes to load so many nodes (93 s for 2,000 experts, measured).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from ....graph.context import GraphContext
from ..config import Experts

ExpertsWriter = Callable[[str], str]  # rows of every expert [E, C, D] -> [E, C, D]


def build_mixture(g: GraphContext, experts: Experts, at: str, x: str, mlp: ExpertsWriter) -> str:
    """`x` [B, L, D] -> [B, L, D]: elect, then mix."""
    b = g.b
    rows = b.op("Reshape", [x, b.constant([-1, g.backbone.hidden_size])], f"{at}.rows")
    ids, weights = build_router(g, experts, f"{at}.gate", rows)
    mixed = mix_experts(g, at, rows, ids, weights, count=experts.count, per_token=experts.per_token, mlp=mlp)
    return b.op("Reshape", [mixed, b.op("Shape", [x], f"{at}.shape")], f"{at}.mixed")


def build_router(g: GraphContext, experts: Experts, at: str, rows: str) -> tuple[str, str]:
    """`rows` [N, D] -> elected experts int64 [N, k] and their weights float32 [N, k]. Always in float32: a slip here changes who speaks."""
    b = g.b
    transposed = b.op("Transpose", [g.vector(f"{at}.weight")], f"{at}.weight_transposed", perm=[1, 0])
    logits = b.op("MatMul", [rows, transposed], f"{at}.logits")
    scores = b.op("Softmax", [logits], f"{at}.scores", axis=-1) if experts.score == "softmax" else b.op("Sigmoid", [logits], f"{at}.scores")
    standing = b.op("Add", [scores, g.vector(f"{at}.expert_bias")], f"{at}.biased_scores") if experts.score_bias else scores
    if experts.groups > 1:
        standing = keep_best_groups(g, experts, at, standing)
    ids = top(g, standing, experts.per_token, f"{at}.elected")[1]
    weights = b.op("GatherElements", [scores, ids], f"{at}.elected_scores", axis=1)
    if experts.renormalise:
        total = b.op("ReduceSum", [weights, b.constant([1])], f"{at}.elected_total", keepdims=1)
        weights = b.op("Div", [weights, b.op("Add", [total, b.constant(1e-20)], f"{at}.safe_total")], f"{at}.shares")
    if experts.scale != 1.0:
        weights = b.op("Mul", [weights, b.constant(experts.scale)], f"{at}.scaled_shares")
    return ids, weights


def keep_best_groups(g: GraphContext, experts: Experts, at: str, standing: str) -> str:
    """Scores [N, E] with -inf in all but the best groups; a group is as good as the sum of its two best."""
    b = g.b
    size = experts.count // experts.groups
    grouped = b.op("Reshape", [standing, b.constant([-1, experts.groups, size])], f"{at}.grouped")
    two_best = top(g, grouped, 2, f"{at}.two_best")[0]
    worth = b.op("ReduceSum", [two_best, b.constant([2])], f"{at}.group_worth", keepdims=0)  # [N, groups]
    best = top(g, worth, experts.top_groups, f"{at}.best_groups")[1]
    one_hot = b.op(
        "OneHot", [best, b.constant(experts.groups), b.constant(np.array([0.0, 1.0], np.float32))], f"{at}.best_one_hot", axis=-1
    )
    chosen = b.op("ReduceMax", [one_hot, b.constant([1])], f"{at}.group_chosen", keepdims=0)  # [N, groups]
    chosen_column = b.unsqueeze(b.op("Cast", [chosen], f"{at}.group_stands", to=TensorProto.BOOL), [2], f"{at}.group_stands_column")
    kept = b.op("Where", [chosen_column, grouped, b.constant(np.array(-np.inf, np.float32))], f"{at}.kept_groups")
    return b.op("Reshape", [kept, b.constant([-1, experts.count])], f"{at}.standing")


def mix_experts(g: GraphContext, at: str, rows: str, ids: str, weights: str, *, count: int, per_token: int, mlp: ExpertsWriter) -> str:
    """`rows` [N, D], elected `ids` [N, k] and `weights` [N, k] -> weighted sum of the elected experts' results [N, D]."""
    b, width = g.b, g.backbone.hidden_size
    pair_expert = b.op("Reshape", [ids, b.constant([-1, 1])], f"{at}.pair_expert")  # [N * k, 1]
    elected = b.op("Equal", [pair_expert, b.constant(np.arange(count, dtype=np.int64))], f"{at}.elected")  # [N * k, E]
    elected_count = b.op("Cast", [elected], f"{at}.elected_count", to=TensorProto.INT32)
    before = b.op("CumSum", [elected_count, b.constant(np.array(0, np.int64))], f"{at}.elected_before", exclusive=1)
    place = b.op("GatherElements", [before, pair_expert], f"{at}.place", axis=1)  # of a pair among its expert's rows, [N * k, 1]
    load = b.op("ReduceSum", [elected_count, b.constant([0])], f"{at}.load", keepdims=0)  # [E]
    busiest = b.op("Cast", [b.op("ReduceMax", [load], f"{at}.busiest_load", keepdims=0)], f"{at}.busiest", to=TensorProto.INT64)

    first = b.op("Mul", [pair_expert, busiest], f"{at}.first_slot")
    slot_column = b.op("Add", [first, b.op("Cast", [place], f"{at}.place_int64", to=TensorProto.INT64)], f"{at}.slot_column")
    slot = b.op("Reshape", [slot_column, b.constant([-1])], f"{at}.slot")  # [N * k], of E * C
    slots = b.unsqueeze(b.op("Mul", [busiest, b.constant(count)], f"{at}.slots"), [0], f"{at}.slots_shape")
    nobody = b.op("Expand", [b.constant(0), slots], f"{at}.nobody")
    token = b.op("Div", [b.range(b.dimension(slot, 0, f"{at}.pairs"), f"{at}.pair"), b.constant(per_token)], f"{at}.token_of_pair")
    token_of_slot = b.op("ScatterElements", [nobody, slot, token], f"{at}.token_of_slot", axis=0)

    places = b.op("Gather", [rows, token_of_slot], f"{at}.rows_of_slots", axis=0)  # [E * C, D]
    by_expert = b.op("Reshape", [places, b.constant([count, -1, width])], f"{at}.rows_of_experts")  # [E, C, D]
    results = b.op("Reshape", [mlp(by_expert), b.constant([-1, width])], f"{at}.results")  # [E * C, D]
    by_pair = b.op("Gather", [results, slot], f"{at}.result_of_pair", axis=0)
    by_token = b.op("Reshape", [by_pair, b.constant([-1, per_token, width])], f"{at}.result_of_token")
    weighted = b.op("Mul", [by_token, b.unsqueeze(weights, [2], f"{at}.weight_column")], f"{at}.weighted")
    return b.op("ReduceSum", [weighted, b.constant([1])], f"{at}.sum", keepdims=0)


def top(g: GraphContext, value: str, k: int, name: str) -> tuple[str, str]:
    """The k largest along the last axis, best first: values and indices."""
    outputs = [f"{name}.values", f"{name}.indices"]
    values, indices = g.b.op_with("TopK", [value, g.b.constant([k])], outputs, axis=-1, largest=1, sorted=1)
    return values, indices
