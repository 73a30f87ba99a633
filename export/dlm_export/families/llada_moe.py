"""LLaDA-MoE: an OLMoE trained to unmask, fully bidirectional, no shift. Its model_type is the dense LLaDA's."""

from __future__ import annotations

from ..backbones.denoiser import DenoiserConfig, Experts
from ..errors import shown
from .config_fields import ConfigFields
from .decoder_family import DecoderFamily, decoder_config, without_head_dim
from .expert_fields import read_experts
from .family import FamilyFacts

FACTS = FamilyFacts(
    name="llada_moe",
    architecture="LLaDAMoEModelLM",
    context_masks=("bidirectional",),
    mask_names=("<|mask|>",),
    stop_names=("<|role_end|>",),
    published_mask_id=156895,
    published_eos_id=156892,
)


class LladaMoe(DecoderFamily):
    """The published code takes the router's probabilities as they are: it neither renormalises nor scales them."""

    def checkpoint_key(self, name: str) -> str:
        """A shared expert stands beside the feed-forward, not in it."""
        return super().checkpoint_key(name.replace(".mlp.shared_experts.", ".shared_expert."))

    def denoiser_config(self, fields: ConfigFields) -> DenoiserConfig:
        """Sizes, and which layers are dense."""
        fields.require("clip_qkv", None)
        fields.require("moe_router_enable_expert_bias", False)
        fields.require("moe_router_score_function", "softmax")
        bias, layers = fields.boolean("attention_bias", False), fields.integer("num_hidden_layers", least=1)
        frequency = fields.values.get("moe_layer_freq")
        if (
            not isinstance(frequency, list)
            or len(frequency) != layers
            or any(type(item) is not int or item not in (0, 1) for item in frequency)
        ):
            raise fields.error("moe_layer_freq", f"is {shown(frequency)}, expected a list of 0 or 1 for each of {layers} layers")
        dense = frozenset(index for index, mixed in enumerate(frequency) if not mixed)
        return decoder_config(
            without_head_dim(fields),
            intermediate_size=fields.integer("dense_intermediate_size", least=1) if dense else 1,
            qkv_bias=bias,
            output_bias=bias,
            qk_norm=fields.boolean("qk_layernorm", False),
            experts=mixture(fields, dense) if len(dense) < layers else None,
        )


def mixture(fields: ConfigFields, dense: frozenset[int]) -> Experts:
    """Experts, and where there is one the feed-forward that they share."""
    return read_experts(fields, dense, size="expert_intermediate_size", shared_size=fields.integer("shared_expert_intermediate_size", 0))


FAMILY = LladaMoe(FACTS)
