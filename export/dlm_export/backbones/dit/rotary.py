"""Rotary embedding of queries and keys by the frequencies that the checkpoint stores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from ...graph.builder import GraphBuilder
from ...graph.context import GraphContext
from .config import DitConfig


@dataclass(frozen=True)
class RotaryTables:
    """Values of the graph, float32 [B, L, 2 H, dh], made once a step for all layers.

    The first H heads are queries, whose entries carry 1 / sqrt(dh). The first half of `sin` is negated, see `rotate`.
    """

    cos: str
    sin: str


def build_rotary(g: GraphContext, config: DitConfig) -> RotaryTables:
    """Tables for `position_ids` [B, L]."""
    b = g.b
    positions = b.op("Cast", ["position_ids"], "rotary.positions", to=TensorProto.FLOAT)
    column = b.unsqueeze(positions, [2, 3], "rotary.column")  # [B, L, 1, 1]
    angles = b.op("Mul", [column, g.vector("rotary_emb.inv_freq")], "rotary.angles")  # [B, L, 1, dh / 2]
    cos, sin = b.op("Cos", [angles], "rotary.cos_half"), b.op("Sin", [angles], "rotary.sin_half")
    cos_full = b.op("Concat", [cos, cos], "rotary.cos_full", axis=-1)
    sin_full = b.op("Concat", [b.op("Neg", [sin], "rotary.sin_negated"), sin], "rotary.sin_full", axis=-1)
    by_head = np.ones((1, 1, 2 * config.heads, 1), np.float32)
    by_head[:, :, : config.heads] = config.head_size**-0.5
    scale = b.weight("rotary.head_scale", by_head)
    return RotaryTables(b.op("Mul", [cos_full, scale], "rotary.cos"), b.op("Mul", [sin_full, scale], "rotary.sin"))


def rotate(b: GraphBuilder, x: str, tables: RotaryTables, head_size: int, at: str) -> str:
    """Halves convention, queries and keys together [B, L, 2 H, dh]: x * cos + swapped_halves(x) * sin."""
    half = head_size // 2
    first, second = b.split(x, [half, half], [f"{at}.first_half", f"{at}.second_half"])
    swapped = b.op("Concat", [second, first], f"{at}.swapped_halves", axis=-1)
    along, across = b.op("Mul", [x, tables.cos], f"{at}.times_cos"), b.op("Mul", [swapped, tables.sin], f"{at}.times_sin")
    return b.op("Add", [along, across], f"{at}.rotated")
