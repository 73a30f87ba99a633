"""Rotary tables, computed once per step from position ids in float32 and shared by all layers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....graph.builder import GraphBuilder
from ..config import DenoiserConfig, inverse_frequencies


@dataclass(frozen=True)
class RotaryTables:
    """Values of the graph, float32 [B, L, H + Hkv, dh].

    The first H heads are queries; their entries carry the long-position query scale and 1 / sqrt(dh), so that attention scores need no
    scaling of their own. The first half of `sin` is negated: rotated = x * cos + swapped_halves(x) * sin.
    """

    cos: str
    sin: str


def build_rotary(b: GraphBuilder, config: DenoiserConfig) -> RotaryTables:
    """Tables for `position_ids` [B, L]."""
    positions = b.op("Cast", ["position_ids"], "rotary.positions", to=1)
    column = b.unsqueeze(positions, [2, 3], "rotary.column")  # [B, L, 1, 1]
    inv_freq = b.weight("rotary.inv_freq", inverse_frequencies(config).numpy())
    angles = b.op("Mul", [column, inv_freq], "rotary.angles")  # [B, L, 1, r / 2]
    cos_half = b.op("Cos", [angles], "rotary.cos_half")
    sin_half = b.op("Sin", [angles], "rotary.sin_half")
    sin_negated = b.op("Neg", [sin_half], "rotary.sin_negated")
    ones, zeros = still_parts(b, config)
    cos = b.op("Concat", [cos_half, cos_half, *ones], "rotary.cos_full", axis=-1)
    sin = b.op("Concat", [sin_negated, sin_half, *zeros], "rotary.sin_full", axis=-1)
    scale = head_scale(b, config)
    return RotaryTables(b.op("Mul", [cos, scale], "rotary.cos"), b.op("Mul", [sin, scale], "rotary.sin"))


def still_parts(b: GraphBuilder, config: DenoiserConfig) -> tuple[list[str], list[str]]:
    """Table entries [B, L, 1, dh - r] of the dimensions that do not turn: cosine 1 and sine 0; none where all turn."""
    rest = config.head_dim - config.turning
    if not rest:
        return [], []
    # An attention factor scales what turns and nothing else.
    one = b.constant(np.full((1, 1, 1, rest), 1 / config.attention_factor, np.float32))
    shape = b.op("Shape", ["position_ids"], "rotary.counts")
    full = b.op("Concat", [shape, b.constant([1, rest])], "rotary.still_shape", axis=0)
    ones = b.op("Expand", [one, full], "rotary.still_cos")
    return [ones], [b.op("Expand", [b.constant(0.0), full], "rotary.still_sin")]


def head_scale(b: GraphBuilder, config: DenoiserConfig) -> str:
    """What each head's table entries are multiplied by, [B or 1, L or 1, H + Hkv, 1]: YaRN's factor, and for queries their scales."""
    static = np.full((1, 1, config.heads + config.kv_heads, 1), config.attention_factor, np.float32)
    static[:, :, : config.heads] *= np.float32(config.head_dim**-0.5)
    scale = b.weight("rotary.head_scale", static)
    if not config.query_scale_beta:
        return scale
    # 1 + beta * log(1 + floor(position / original context)), for queries only: beta is 0 for key heads.
    rounds = b.op("Div", ["position_ids", b.constant(config.query_scale_positions)], "rotary.rounds")
    rounds_float = b.op("Cast", [rounds], "rotary.rounds_float", to=1)
    growth = b.op("Log", [b.op("Add", [rounds_float, b.constant(1.0)], "rotary.rounds_plus_one")], "rotary.growth")
    growth_column = b.unsqueeze(growth, [2, 3], "rotary.growth_column")
    beta = np.zeros_like(static)
    beta[:, :, : config.heads] = config.query_scale_beta
    grown = b.op("Mul", [growth_column, b.weight("rotary.query_scale_beta", beta)], "rotary.grown")
    query_scale = b.op("Add", [grown, b.constant(1.0)], "rotary.query_scale")
    return b.op("Mul", [query_scale, scale], "rotary.scale")
