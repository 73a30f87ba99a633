"""Rotary embedding as config.json describes it: `rope_parameters`, or the older `rope_theta` with `rope_scaling`."""

from __future__ import annotations

import math

from ..backbones.denoiser import LinearScaling, Llama3Scaling, RopeScaling, YarnScaling
from .config_fields import ConfigFields


def rope_section(fields: ConfigFields) -> ConfigFields:
    """`rope_parameters`, under its older name too; empty where rotary positions are plain."""
    return fields.section("rope_parameters") or fields.section("rope_scaling") or ConfigFields(fields.file, {})


def rope_theta(fields: ConfigFields, default: float | None = None) -> float:
    """The base, from the section or beside it."""
    rope = rope_section(fields)
    return (
        rope.number("rope_theta", above=1) if rope.values.get("rope_theta") is not None else fields.number("rope_theta", default, above=1)
    )


def rope_scaling(fields: ConfigFields) -> RopeScaling | None:
    """The scaling, or None for plain rotary positions. Raises CheckpointError for a kind that depends on the length of the text."""
    rope = rope_section(fields)
    type_field = "rope_type" if rope.values.get("rope_type") is not None else "type"  # the latter is older
    rope.require(type_field, "default", "linear", "yarn", "llama3")
    kind = rope.values.get(type_field)
    if kind == "linear":
        return LinearScaling(rope.number("factor", above=0))
    if kind == "llama3":
        return llama3_scaling(rope)
    return yarn_scaling(rope, fields) if kind == "yarn" else None


def llama3_scaling(rope: ConfigFields) -> Llama3Scaling:
    """Llama 3.1's numbers."""
    try:
        return Llama3Scaling(
            factor=rope.number("factor", above=0),
            low_freq_factor=rope.number("low_freq_factor", above=0),
            high_freq_factor=rope.number("high_freq_factor", above=0),
            original_max_positions=rope.integer("original_max_position_embeddings", least=1),
        )
    except ValueError as error:
        raise rope.error("high_freq_factor", str(error)) from error


def yarn_scaling(rope: ConfigFields, fields: ConfigFields) -> YarnScaling:
    """YaRN's numbers.

    The attention factor is `m(mscale) / m(mscale_all_dim)` with m(s) = 0.1 s ln(factor) + 1, so 1 where both are equal, as published.
    """
    rope.require("truncate", True)
    factor = rope.number("factor", above=0)

    def magnitude(scale: float) -> float:
        return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0

    if rope.values.get("attention_factor") is not None:
        attention_factor = rope.number("attention_factor", above=0)
    elif rope.values.get("mscale") and rope.values.get("mscale_all_dim"):
        attention_factor = magnitude(rope.number("mscale", above=0)) / magnitude(rope.number("mscale_all_dim", above=0))
    else:
        attention_factor = magnitude(1.0)
    return YarnScaling(
        factor=factor,
        original_max_positions=original_positions(rope, fields),
        beta_fast=rope.number("beta_fast", 32.0, above=0),
        beta_slow=rope.number("beta_slow", 1.0, above=0),
        attention_factor=attention_factor,
    )


def original_positions(rope: ConfigFields, fields: ConfigFields) -> int:
    """The context before scaling; older files leave it out where it is `max_position_embeddings`."""
    if rope.prefix.startswith("rope_scaling") and rope.values.get("original_max_position_embeddings") is None:
        return fields.integer("max_position_embeddings", least=1)
    return rope.integer("original_max_position_embeddings", least=1)
