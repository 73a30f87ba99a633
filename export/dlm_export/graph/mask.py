"""The attention mask, computed in the graph from four integers and a flag per row."""

from __future__ import annotations

import numpy as np

from .builder import GraphBuilder


def build_mask(b: GraphBuilder, *, length: str, past_length: str, query_groups: int) -> str:
    """Additive mask, 0 or -inf, float32 [B, 1, G * L, L + P], where G queries share a key head.

    Columns stand in the order of attention.py: the tokens of this step, then the past.

    A query sees the first `past_lengths[b]` past columns, and of the tokens forwarded with it those that are real (index below
    `query_lengths[b]`) and, in a causal row, not after it. Every query sees itself, so that padding too gives finite numbers.
    """
    index = b.range(length, "mask.index")  # [L]
    query = b.unsqueeze(index, [1], "mask.query")  # [L, 1]
    not_after = b.op("LessOrEqual", [index, query], "mask.not_after")  # [L, L]
    itself = b.op("Equal", [index, query], "mask.itself")
    causal = b.unsqueeze("causal", [1, 2], "mask.causal")  # [B, 1, 1]
    bidirectional = b.op("Not", [causal], "mask.bidirectional")
    in_order = b.op("Or", [bidirectional, not_after], "mask.in_order")  # [B, L, L]
    query_lengths = b.unsqueeze("query_lengths", [1, 2], "mask.query_lengths")
    real = b.op("Less", [index, query_lengths], "mask.real")  # [B, 1, L]
    real_in_order = b.op("And", [in_order, real], "mask.real_in_order")
    current = b.op("Or", [real_in_order, itself], "mask.current")  # [B, L, L]

    past_index = b.range(past_length, "mask.past_index")  # [P]
    past_lengths = b.unsqueeze("past_lengths", [1, 2], "mask.past_lengths")
    committed = b.op("Less", [past_index, past_lengths], "mask.committed")  # [B, 1, P]
    rows = b.unsqueeze(length, [0], "mask.rows")
    past_shape = b.op("Concat", [b.constant([1]), rows, b.constant([1])], "mask.past_shape", axis=0)
    past = b.op("Expand", [committed, past_shape], "mask.past")  # [B, L, P]

    visible = b.op("Concat", [current, past], "mask.visible", axis=2)  # [B, L, L + P]
    hidden_bias = b.constant(np.array(-np.inf, np.float32))
    bias = b.op("Where", [visible, b.constant(0.0), hidden_bias], "mask.bias")
    per_head = b.unsqueeze(bias, [1], "mask.per_head")  # [B, 1, L, L + P]
    # Queries of one key head are stacked along L (see attention.py), so the mask is stacked alike, once for all layers.
    return b.op("Concat", [per_head] * query_groups, "mask.stacked", axis=2) if query_groups > 1 else per_head
