"""Rotary tables of each kind of layer, computed once per step from position ids in float32."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import TensorProto

from ....graph.builder import GraphBuilder
from ..config import AttentionKind, DiffusionGemmaConfig


@dataclass(frozen=True)
class RotaryTables:
    """Values of the graph, float32 [B, L, 1, dh]. The first half of `sin` is negated: rotated = x * cos + swapped_halves(x) * sin."""

    cos: str
    sin: str


def build_rotary(b: GraphBuilder, config: DiffusionGemmaConfig) -> dict[AttentionKind, RotaryTables]:
    """Tables for `position_ids` [B, L], of the kinds that occur."""
    positions = b.op("Cast", ["position_ids"], "rotary.positions", to=TensorProto.FLOAT)
    column = b.unsqueeze(positions, [2, 3], "rotary.column")  # [B, L, 1, 1]
    return {kind: build_tables(b, kind, column, f"rotary.{name}") for name, kind in config.kinds()}


def build_tables(b: GraphBuilder, kind: AttentionKind, column: str, at: str) -> RotaryTables:
    """Pairs that do not turn have frequency 0, and with it cosine 1 and sine 0."""
    angles = b.op("Mul", [column, b.weight(f"{at}.inv_freq", kind.inverse_frequencies().numpy())], f"{at}.angles")  # [B, L, 1, dh / 2]
    cos, sin = b.op("Cos", [angles], f"{at}.cos_half"), b.op("Sin", [angles], f"{at}.sin_half")
    negated = b.op("Neg", [sin], f"{at}.sin_negated")
    return RotaryTables(b.op("Concat", [cos, cos], f"{at}.cos", axis=-1), b.op("Concat", [negated, sin], f"{at}.sin", axis=-1))


def rotate(b: GraphBuilder, x: str, rotary: RotaryTables, head_dim: int, at: str) -> str:
    """Rotary embedding, halves convention, of queries and keys together: [B, L, H + Hkv, dh]."""
    first, second = b.split(x, [head_dim // 2] * 2, [f"{at}.first_half", f"{at}.second_half"])
    swapped = b.op("Concat", [second, first], f"{at}.swapped_halves", axis=-1)
    along = b.op("Mul", [x, rotary.cos], f"{at}.times_cos")
    across = b.op("Mul", [swapped, rotary.sin], f"{at}.times_sin")
    return b.op("Add", [along, across], f"{at}.rotated")
