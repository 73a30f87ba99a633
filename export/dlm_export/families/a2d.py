"""A2D (dllm): stock Qwen3, Qwen2 and Llama checkpoints turned into denoisers, no shift.

One architecture is trained in two ways, fully bidirectional (mdlm) or block-causal (bd3lm), and config.json does not say which.
"""

from __future__ import annotations

from dataclasses import replace

from ..backbones.denoiser import DenoiserConfig
from .config_fields import ConfigFields
from .decoder_family import DecoderFamily, decoder_config
from .family import FamilyFacts
from .sdar import qwen3_config

FACTS = FamilyFacts(
    name="a2d_qwen3",
    architecture="A2DQwen3LMHeadModel",
    context_masks=("bidirectional", "block_causal"),
    mask_names=("<|mask|>",),
    eos_names=("<|im_end|>", "<|eot_id|>"),
    template_variables={"enable_thinking": False},
)


class A2dQwen3(DecoderFamily):
    """Qwen3 as it is."""

    def denoiser_config(self, fields: ConfigFields) -> DenoiserConfig:
        """Qwen3's numbers."""
        return qwen3_config(fields)


class A2dQwen2(DecoderFamily):
    """Qwen2 as it is: queries, keys and values have biases."""

    def denoiser_config(self, fields: ConfigFields) -> DenoiserConfig:
        """Qwen2's numbers."""
        return decoder_config(fields, qkv_bias=True)


class A2dLlama(DecoderFamily):
    """Llama as it is."""

    def denoiser_config(self, fields: ConfigFields) -> DenoiserConfig:
        """Llama's numbers."""
        fields.require("pretraining_tp", 1)
        bias = fields.boolean("attention_bias", False)
        return decoder_config(fields, qkv_bias=bias, output_bias=bias, mlp_bias=fields.boolean("mlp_bias", False))


QWEN3 = A2dQwen3(FACTS)
QWEN2 = A2dQwen2(replace(FACTS, name="a2d_qwen2", architecture="A2DQwen2LMHeadModel"))
LLAMA = A2dLlama(replace(FACTS, name="a2d_llama", architecture="A2DLlamaLMHeadModel"))
