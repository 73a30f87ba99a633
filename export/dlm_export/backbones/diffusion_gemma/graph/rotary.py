"""Rotary tables of each kind of layer."""

from __future__ import annotations

from ....graph import rotary
from ....graph.builder import GraphBuilder
from ....graph.rotary import RotaryTables
from ..config import AttentionKind, DiffusionGemmaConfig


def build_rotary(b: GraphBuilder, config: DiffusionGemmaConfig) -> dict[AttentionKind, RotaryTables]:
    """Tables [B, L, 1, dh] of the kinds that occur. Pairs that do not turn have frequency 0, and with it cosine 1 and sine 0."""
    return {kind: rotary.build_rotary(b, kind.inverse_frequencies().numpy(), name=f"rotary.{name}") for name, kind in config.kinds()}
