"""The attention mask, computed in the graph from integers alone."""

from __future__ import annotations

import numpy as np

from .builder import GraphBuilder


def build_visible(b: GraphBuilder, *, length: str, past_length: str) -> str:
    """Who sees whom, bool [B, L, L + P]; columns stand in the order of attention.py: the tokens of this step, then the past.

    A query sees the first `past_lengths[b]` past columns, and of the tokens forwarded with it those that are real (index below
    `query_lengths[b]`) and whose block, counted from 0, does not come after its own. Every query sees itself, so that padding too gives
    finite numbers. A token in a negative block is seen by nobody else; it sees what a token in block -2 - id sees, so -1 sees no block,
    -2 block 0, -3 blocks 0 and 1.
    """
    index = b.range(length, "mask.index")  # [L]
    itself = b.op("Equal", [index, b.unsqueeze(index, [1], "mask.query")], "mask.itself")  # [L, L]
    key_blocks = b.unsqueeze("block_ids", [1], "mask.key_blocks")  # [B, 1, L]
    mirrored = b.op("Sub", [b.constant(-2), "block_ids"], "mask.mirrored")
    levels = b.op("Max", ["block_ids", mirrored], "mask.levels")  # -2 - id for a negative id, id for any other
    query_levels = b.unsqueeze(levels, [2], "mask.query_levels")  # [B, L, 1]
    in_order = b.op("LessOrEqual", [key_blocks, query_levels], "mask.in_order")  # [B, L, L]
    query_lengths = b.unsqueeze("query_lengths", [1, 2], "mask.query_lengths")
    real = b.op("Less", [index, query_lengths], "mask.real")  # [B, 1, L]
    public = b.op("GreaterOrEqual", [key_blocks, b.constant(0)], "mask.public")  # [B, 1, L]
    shown = b.op("And", [real, public], "mask.shown")
    shown_in_order = b.op("And", [in_order, shown], "mask.shown_in_order")
    current = b.op("Or", [shown_in_order, itself], "mask.current")  # [B, L, L]

    past_index = b.range(past_length, "mask.past_index")  # [P]
    past_lengths = b.unsqueeze("past_lengths", [1, 2], "mask.past_lengths")
    committed = b.op("Less", [past_index, past_lengths], "mask.committed")  # [B, 1, P]
    rows = b.unsqueeze(length, [0], "mask.rows")
    past_shape = b.op("Concat", [b.constant([1]), rows, b.constant([1])], "mask.past_shape", axis=0)
    past = b.op("Expand", [committed, past_shape], "mask.past")  # [B, L, P]
    return b.op("Concat", [current, past], "mask.visible", axis=2)  # [B, L, L + P]


def additive_bias(b: GraphBuilder, visible: str, *, query_groups: int = 1, name: str = "mask") -> str:
    """`visible` as 0 or -inf, float32 [B, 1, G * L, L + P], where G queries share a key head.

    Queries of one key head are stacked along L (see attention.py), so the mask is stacked alike, once for all layers.
    """
    hidden = b.constant(np.array(-np.inf, np.float32))
    bias = b.op("Where", [visible, b.constant(0.0), hidden], f"{name}.bias")
    per_head = b.unsqueeze(bias, [1], f"{name}.per_head")  # [B, 1, L, L + P]
    return b.op("Concat", [per_head] * query_groups, f"{name}.stacked", axis=2) if query_groups > 1 else per_head
