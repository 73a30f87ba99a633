"""SDAR, dense and with experts: a Qwen3 turned into a block diffusion model, block-causal context, no shift."""

from __future__ import annotations

from dataclasses import replace

from ..backbones.denoiser import DenoiserConfig
from ..checkpoint import Checkpoint
from ..errors import shown
from .config_fields import MOST_LAYERS, ConfigFields
from .decoder_family import DecoderFamily, decoder_config
from .expert_fields import read_experts
from .family import FamilyFacts, SpecialOverrides, SpecialTokens

BLOCK_FIELD = "block_size"
FACTS = FamilyFacts(
    name="sdar",
    architecture="SDARForCausalLM",
    context_masks=("block_causal",),
    default_threshold=0.85,
    mask_names=("<|MASK|>", "<MASK>", "<|mask|>"),
    stop_names=("<|im_end|>",),
    published_mask_id=151669,
    published_eos_id=151643,
    block_field=BLOCK_FIELD,
    block_length=4,
)


class Sdar(DecoderFamily):
    """Queries and keys are normed head by head."""

    def denoiser_config(self, fields: ConfigFields) -> DenoiserConfig:
        """Qwen3's numbers."""
        return qwen3_config(fields)

    def special_tokens(self, checkpoint: Checkpoint, overrides: SpecialOverrides) -> SpecialTokens:
        """As every decoder's. The published config.json has no block length, whatever a checkpoint was trained with, so a note asks."""
        tokens = super().special_tokens(checkpoint, overrides)
        if checkpoint.config.get(BLOCK_FIELD) is not None:
            return tokens
        note = (
            f"config.json has no {BLOCK_FIELD}. Blocks of {tokens.block_length} are the usual ones of SDAR; a checkpoint trained with "
            "others says so in its name, as -b16 does, and needs --block-length."
        )
        return replace(tokens, notes=(*tokens.notes, note))


class SdarMoe(Sdar):
    """Qwen3-MoE's experts."""

    def denoiser_config(self, fields: ConfigFields) -> DenoiserConfig:
        """Qwen3-MoE's numbers; which layers are dense follows from `decoder_sparse_step` and `mlp_only_layers`."""
        layers, every = fields.integer("num_hidden_layers", least=1, most=MOST_LAYERS), fields.integer("decoder_sparse_step", 1, least=1)
        listed = fields.items("mlp_only_layers")
        if any(type(item) is not int for item in listed):
            raise fields.error("mlp_only_layers", f"is {shown(listed)}, expected a list of layers")
        dense = frozenset(index for index in range(layers) if index in listed or (index + 1) % every)
        config = qwen3_config(fields, intermediate_size=fields.integer("intermediate_size", least=1) if dense else 1)
        if len(dense) == layers:
            return config
        return replace(config, experts=read_experts(fields, dense, renormalise=fields.boolean("norm_topk_prob", False)))


def qwen3_config(fields: ConfigFields, **switches: int) -> DenoiserConfig:
    """A Qwen3: biases only where `attention_bias` says so, norms of queries and keys."""
    bias = fields.boolean("attention_bias", False)
    return decoder_config(fields, head_dim=128, qkv_bias=bias, output_bias=bias, qk_norm=True, **switches)


DENSE = Sdar(FACTS)
MOE = SdarMoe(replace(FACTS, name="sdar_moe", architecture="SDARMoeForCausalLM"))
