"""Nemotron-Labs-Diffusion: one set of weights for block diffusion, self-speculation and autoregression.

The backbone is Ministral3 (grouped-query attention, YaRN, a query scale that grows past the original context). Context is causal; a
block under denoising sees itself whole; a finished block is committed causally; logits are not shifted in diffusion.
"""

from __future__ import annotations

from ..backbones.denoiser import DenoiserConfig
from .config_fields import ConfigFields
from .decoder_family import DecoderFamily, decoder_config
from .family import FamilyFacts
from .rope_fields import rope_section

FACTS = FamilyFacts(
    name="nemotron_labs_diffusion",
    architecture="NemotronLabsDiffusionModel",
    context_masks=("causal",),
    modes=("diffusion", "self_speculation", "ar"),
    block_field="block_size",
)


class NemotronLabsDiffusion(DecoderFamily):
    """Key names `encoder.*` and `diffusion_head`; numbers and ids from config.json."""

    def checkpoint_key(self, name: str) -> str:
        """`layers.0.mlp.up_proj.weight` -> `encoder.layers.0.mlp.up_proj.weight`; the head stands outside the encoder."""
        return "diffusion_head.weight" if name == "head.weight" else f"encoder.{name}"

    def denoiser_config(self, fields: ConfigFields) -> DenoiserConfig:
        """Ministral3's numbers."""
        fields.require("attention_bias", False)
        fields.require("mlp_bias", False)
        fields.require("sliding_window", None)
        rope = rope_section(fields)
        positions = rope.integer("original_max_position_embeddings", fields.integer("max_position_embeddings", least=1), least=1)
        beta = rope.number("llama_4_scaling_beta", 0.0)
        return decoder_config(fields, query_scale_beta=beta, query_scale_positions=positions)


FAMILY = NemotronLabsDiffusion(FACTS)
