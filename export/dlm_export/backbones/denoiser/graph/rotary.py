"""Rotary tables of queries and keys, with all that scales queries in them."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from ....graph import rotary
from ....graph.builder import GraphBuilder
from ....graph.rotary import RotaryTables
from ..config import DenoiserConfig, inverse_frequencies


def build_rotary(b: GraphBuilder, config: DenoiserConfig) -> RotaryTables:
    """Tables [B, L, H + Hkv, dh]. An attention factor scales what turns and nothing else."""
    frequencies, still = inverse_frequencies(config).numpy(), config.head_dim - config.turning
    tables = rotary.build_rotary(b, frequencies, still=still, still_cos=1 / config.attention_factor)
    return tables.scaled(b, build_scale(b, config))


def build_scale(b: GraphBuilder, config: DenoiserConfig) -> str:
    """YaRN's factor, and for queries their scales: [B or 1, L or 1, H + Hkv, 1]."""
    static = rotary.head_scale(config.heads, config.kv_heads, config.head_dim, config.attention_factor)
    scale = b.weight("rotary.head_scale", static)
    if not config.query_scale_beta:
        return scale
    # 1 + beta * log(1 + floor(position / original context)), for queries only: beta is 0 for key heads.
    rounds = b.op("Div", ["position_ids", b.constant(config.query_scale_positions)], "rotary.rounds")
    rounds_float = b.op("Cast", [rounds], "rotary.rounds_float", to=TensorProto.FLOAT)
    growth = b.op("Log", [b.op("Add", [rounds_float, b.constant(1.0)], "rotary.rounds_plus_one")], "rotary.growth")
    growth_column = b.unsqueeze(growth, [2, 3], "rotary.growth_column")
    beta = np.zeros_like(static)
    beta[:, :, : config.heads] = config.query_scale_beta
    grown = b.op("Mul", [growth_column, b.weight("rotary.query_scale_beta", beta)], "rotary.grown")
    query_scale = b.op("Add", [grown, b.constant(1.0)], "rotary.query_scale")
    return b.op("Mul", [query_scale, scale], "rotary.scale")
