"""Nemotron-Labs-Diffusion: one set of weights for block diffusion, self-speculation and autoregression.

The backbone is Ministral3 (grouped-query attention, YaRN, a query scale that grows past the original context). Context is causal; a
block under denoising sees itself whole; a finished block is committed causally; logits are not shifted in diffusion.
"""

from __future__ import annotations

import math

from ..checkpoint import Checkpoint
from ..denoiser import DenoiserConfig, YarnScaling
from .config_fields import ConfigFields
from .family import FamilyFacts, SpecialTokens

FACTS = FamilyFacts(
    name="nemotron_labs_diffusion",
    architecture="NemotronLabsDiffusionModel",
    modes=("diffusion", "self_speculation", "ar"),
    default_mode="diffusion",
    default_threshold=0.9,
)


class NemotronLabsDiffusion:
    """Key names `encoder.*` and `diffusion_head`; numbers and ids from config.json."""

    @property
    def facts(self) -> FamilyFacts:
        """The family's constants."""
        return FACTS

    def checkpoint_key(self, name: str) -> str:
        """`layers.0.mlp.up_proj.weight` -> `encoder.layers.0.mlp.up_proj.weight`; the head stands outside the encoder."""
        return "diffusion_head.weight" if name == "head.weight" else f"encoder.{name}"

    def denoiser_config(self, checkpoint: Checkpoint) -> DenoiserConfig:
        """Sizes from config.json. Raises CheckpointError for a field that is missing or that the backbone has no answer to."""
        fields = config_fields(checkpoint)
        fields.require("hidden_act", "silu")
        fields.require("attention_bias", False)
        fields.require("mlp_bias", False)
        fields.require("sliding_window", None)
        fields.require("quantization_config", None)
        rope = rope_fields(fields)
        heads = fields.integer("num_attention_heads", least=1)
        hidden_size = fields.integer("hidden_size", least=1)
        scaled_positions = rope.integer("original_max_position_embeddings", fields.integer("max_position_embeddings", least=1), least=1)
        try:
            return DenoiserConfig(
                vocab_size=fields.integer("vocab_size", least=2),
                hidden_size=hidden_size,
                intermediate_size=fields.integer("intermediate_size", least=1),
                layers=fields.integer("num_hidden_layers", least=1),
                heads=heads,
                kv_heads=fields.integer("num_key_value_heads", heads, least=1),
                head_dim=fields.integer("head_dim", hidden_size // heads, least=1),
                rope_theta=rope.number("rope_theta", fields.values.get("rope_theta"), above=1),
                norm_eps=fields.number("rms_norm_eps", above=0),
                yarn=yarn_scaling(rope),
                query_scale_beta=rope.number("llama_4_scaling_beta", 0.0),
                query_scale_positions=scaled_positions,
                tied=fields.boolean("tie_word_embeddings", False),
            )
        except ValueError as error:
            raise fields.error("sizes", f"do not fit together: {error}") from error

    def special_tokens(self, checkpoint: Checkpoint) -> SpecialTokens:
        """Ids and block length from config.json; generation_config.json fills in what is absent there."""
        fields = config_fields(checkpoint)
        generation = ConfigFields(checkpoint.path / "generation_config.json", checkpoint.json("generation_config.json") or {})
        eos = fields.token_ids("eos_token_id") or generation.token_ids("eos_token_id")
        if not eos:
            raise fields.error("eos_token_id", "is missing, and generation_config.json has none either")
        bos = fields.token_ids("bos_token_id") or generation.token_ids("bos_token_id")
        pad = fields.token_ids("pad_token_id") or generation.token_ids("pad_token_id")
        try:
            return SpecialTokens(
                mask_token_id=fields.integer("mask_token_id"),
                bos_token_id=bos[0] if bos else None,
                eos_token_ids=eos,
                pad_token_id=pad[0] if pad else eos[0],
                block_length=fields.integer("block_size", 32, least=1),
            )
        except ValueError as error:
            raise fields.error("token ids", f"do not fit together: {error}") from error

    def max_context(self, checkpoint: Checkpoint) -> int:
        """`max_position_embeddings`, which has to hold at least one block."""
        fields = config_fields(checkpoint)
        positions, block_length = fields.integer("max_position_embeddings", least=2), self.special_tokens(checkpoint).block_length
        if block_length > positions:
            raise fields.error("block_size", f"is {block_length}, more than max_position_embeddings={positions}")
        return positions


def config_fields(checkpoint: Checkpoint) -> ConfigFields:
    """config.json as typed fields."""
    return ConfigFields(checkpoint.path / "config.json", checkpoint.config)


def rope_fields(fields: ConfigFields) -> ConfigFields:
    """`rope_parameters`, under its older name too; empty where rotary positions are plain."""
    return fields.section("rope_parameters") or fields.section("rope_scaling") or ConfigFields(fields.file, {})


def yarn_scaling(rope: ConfigFields) -> YarnScaling | None:
    """YaRN numbers, or None for plain rotary positions.

    The attention factor is `m(mscale) / m(mscale_all_dim)` with m(s) = 0.1 s ln(factor) + 1, so 1 where both are equal, as published.
    """
    type_field = "rope_type" if rope.values.get("rope_type") is not None else "type"  # the latter is older
    rope.require(type_field, "default", "yarn")
    rope.require("truncate", True)
    rope.require("partial_rotary_factor", 1)
    if rope.values.get(type_field) in (None, "default"):
        return None
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
        original_max_positions=rope.integer("original_max_position_embeddings", least=1),
        beta_fast=rope.number("beta_fast", 32.0, above=0),
        beta_slow=rope.number("beta_slow", 1.0, above=0),
        attention_factor=attention_factor,
    )
