"""Gated feed-forwards (Shazeer 2020, arXiv:2002.05202): down(activation(gate(x)) * up(x)), gate and up in one product."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .activation import Activation, build_activation
from .builder import GraphBuilder
from .context import GraphContext


def build_gated_mlp(g: GraphContext, at: str, x: str, size: int, activation: Activation, *, bias: bool = False, rows: bool = False) -> str:
    """[B, L, D] -> [B, L, D], or with `rows` [N, D] -> [N, D] of loose rows; `size` is the width between."""
    both = g.fused_linear(f"{at}.gate_up_proj", [f"{at}.gate_proj", f"{at}.up_proj"], x, bias=bias, rows=rows)
    return g.linear(f"{at}.down_proj", gated(g.b, at, both, size, activation), bias=bias, rows=rows)


def build_experts_mlp(
    g: GraphContext, at: str, x: str, size: int, activation: Activation, *, count: int, gate_up: Callable[[int], Sequence[str]]
) -> str:
    """The same of `count` experts, each on rows of its own: [E, C, D] -> [E, C, D]. `gate_up` names an expert's layers of gate and up."""
    both = g.stacked_linear(f"{at}.gate_up_proj", count, gate_up, x)
    return g.stacked_linear(f"{at}.down_proj", count, lambda e: [f"{at}.{e}.down_proj"], gated(g.b, at, both, size, activation))


def gated(b: GraphBuilder, at: str, both: str, size: int, activation: Activation) -> str:
    """Gate and up side by side -> their gated product."""
    gate, up = b.split(both, [size] * 2, [f"{at}.gate", f"{at}.up"])
    return b.op("Mul", [build_activation(b, gate, f"{at}.gate_{activation}", activation), up], f"{at}.gated")
