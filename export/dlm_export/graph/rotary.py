"""Rotary embedding, halves convention: tables computed once per step from position ids in float32, for all layers that turn alike."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from .builder import GraphBuilder


@dataclass(frozen=True)
class RotaryTables:
    """Values of the graph, float32 [B, L, 1 or all heads, dh], called `{name}.cos` and `.sin` once they are scaled.

    Of a head's dimensions 2 * `half` turn, the `still` ones behind them do not. The first half of `sin` is negated, see `rotate`.
    """

    name: str
    cos: str
    sin: str
    half: int
    still: int = 0

    def scaled(self, b: GraphBuilder, scale: str) -> RotaryTables:
        """The same times `scale` [B or 1, L or 1, heads, 1], which then need not be applied in every layer."""
        cos, sin = (b.op("Mul", [table, scale], f"{self.name}.{part}") for table, part in ((self.cos, "cos"), (self.sin, "sin")))
        return replace(self, cos=cos, sin=sin)


def build_rotary(
    b: GraphBuilder, frequencies: NDArray[np.float32], *, name: str = "rotary", still: int = 0, still_cos: float = 1.0
) -> RotaryTables:
    """Tables [B, L, 1, dh] for `position_ids` [B, L].

    `frequencies` [half] are in radians per position. The `still` dimensions that do not turn get the cosine `still_cos` and the sine 0.
    """
    positions = b.shared("Cast", ["position_ids"], "rotary.positions", to=TensorProto.FLOAT)
    column = b.shared("Unsqueeze", [positions, b.constant([2, 3])], "rotary.column")  # [B, L, 1, 1]
    angles = b.op("Mul", [column, b.weight(f"{name}.inv_freq", frequencies)], f"{name}.angles")  # [B, L, 1, half]
    cos_half = b.op("Cos", [angles], f"{name}.cos_half")
    sin_half = b.op("Sin", [angles], f"{name}.sin_half")
    cos, sin = [cos_half, cos_half], [b.op("Neg", [sin_half], f"{name}.sin_negated"), sin_half]
    if still:
        ones = b.constant(np.full((1, 1, 1, still), still_cos, np.float32))
        counts = b.op("Shape", ["position_ids"], f"{name}.counts")
        shape = b.op("Concat", [counts, b.constant([1, still])], f"{name}.still_shape", axis=0)
        cos.append(b.op("Expand", [ones, shape], f"{name}.still_cos"))
        sin.append(b.op("Expand", [b.constant(0.0), shape], f"{name}.still_sin"))
    cos_full = b.op("Concat", cos, f"{name}.cos_full", axis=-1)
    return RotaryTables(name, cos_full, b.op("Concat", sin, f"{name}.sin_full", axis=-1), len(frequencies), still)


def head_scale(heads: int, kv_heads: int, head_dim: int, factor: float = 1.0) -> NDArray[np.float32]:
    """What each head's entries are multiplied by, [1, 1, H + Hkv, 1]: `factor`, and for queries, which come first, 1 / sqrt(dh) besides.

    Attention scores then need no scaling of their own.
    """
    scale = np.full((1, 1, heads + kv_heads, 1), factor, np.float32)
    scale[:, :, :heads] *= np.float32(head_dim**-0.5)
    return scale


def rotate(b: GraphBuilder, x: str, tables: RotaryTables, at: str) -> str:
    """Queries and keys together, `x` [B, L, H + Hkv, dh]: x * cos + swapped_halves(x) * sin."""
    sizes, parts = [tables.half, tables.half], [f"{at}.first_half", f"{at}.second_half"]
    if tables.still:
        sizes, parts = [*sizes, tables.still], [*parts, f"{at}.not_turning"]
    first, second, *others = b.split(x, sizes, parts)
    swapped = b.op("Concat", [second, first, *others], f"{at}.swapped_halves", axis=-1)
    along = b.op("Mul", [x, tables.cos], f"{at}.times_cos")
    across = b.op("Mul", [swapped, tables.sin], f"{at}.times_sin")
    return b.op("Add", [along, across], f"{at}.rotated")
