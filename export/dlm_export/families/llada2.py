"""LLaDA 2.0 and 2.1: block diffusion with a mixture of experts (Ling 2's backbone), block-causal context, no shift."""

from __future__ import annotations

from ..backbones import Backbone
from ..backbones.denoiser import DenoiserBackbone, DenoiserConfig, Experts
from .config_fields import MOST_LAYERS, ConfigFields
from .decoder_family import DecoderFamily, decoder_config
from .expert_fields import read_experts
from .family import FamilyFacts, TensorSource

FACTS = FamilyFacts(
    name="llada2",
    architecture="LLaDA2MoeModelLM",
    context_masks=("block_causal",),
    default_threshold=0.95,
    mask_names=("<|mask|>",),
    stop_names=("<|role_end|>",),
    published_mask_id=156895,
    published_eos_id=156892,
    block_field="block_size",
)
LAYER_NAMES = {
    "self_attn.qkv_proj": "attention.query_key_value",
    "self_attn.o_proj": "attention.dense",
    "self_attn.q_norm": "attention.query_layernorm",
    "self_attn.k_norm": "attention.key_layernorm",
}


class Llada2(DecoderFamily):
    """Queries, keys and values are stored as one matrix; the first layers are dense."""

    def checkpoint_key(self, name: str) -> str:
        """`layers.0.self_attn.o_proj.weight` -> `model.layers.0.attention.dense.weight`."""
        if name == "embed_tokens.weight":
            return "model.word_embeddings.weight"
        module, kind = name.rsplit(".", 1)
        for ours, theirs in LAYER_NAMES.items():
            if module.endswith(ours):
                return f"model.{module.removesuffix(ours)}{theirs}.{kind}"
        return super().checkpoint_key(name)

    def source(self, name: str, shape: tuple[int, ...], backbone: Backbone) -> TensorSource:
        """Projections of queries, keys and values are rows of one matrix, in that order."""
        module, kind = name.rsplit(".", 1)
        part = module.rsplit(".", 1)[-1]
        if part not in ("q_proj", "k_proj", "v_proj") or not isinstance(backbone, DenoiserBackbone):
            return super().source(name, shape, backbone)
        config = backbone.config
        queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
        start = {"q_proj": 0, "k_proj": queries, "v_proj": queries + keys}[part]
        key = self.checkpoint_key(f"{module.removesuffix(part)}qkv_proj.{kind}")
        return TensorSource(key, (queries + 2 * keys, *shape[1:]), (slice(start, start + shape[0]),))

    def denoiser_config(self, fields: ConfigFields) -> DenoiserConfig:
        """Sizes, router and shared experts. The published code renormalises wherever more than one expert is elected."""
        fields.require("score_function", "sigmoid")
        fields.require("use_rmsnorm", True)
        fields.require("norm_head", False)
        fields.require("norm_softmax", False)
        layers, first = fields.integer("num_hidden_layers", least=1, most=MOST_LAYERS), fields.integer("first_k_dense_replace", 0)
        if fields.values.get("partial_rotary_factor") is None:  # the configuration class turns half of each head by default
            fields = ConfigFields(fields.file, {**fields.values, "partial_rotary_factor": 0.5})
        return decoder_config(
            fields,
            intermediate_size=fields.integer("intermediate_size", least=1) if first else 1,
            qkv_bias=fields.boolean("use_qkv_bias", False),
            output_bias=fields.boolean("use_bias", False),
            qk_norm=fields.boolean("use_qk_norm", True),
            experts=mixture(fields, frozenset(range(min(first, layers)))) if first < layers else None,
        )


def mixture(fields: ConfigFields, dense: frozenset[int]) -> Experts:
    """Router and shared experts, which together are as wide as so many of the others."""
    return read_experts(
        fields,
        dense,
        score="sigmoid",
        score_bias=True,
        renormalise=fields.integer("num_experts_per_tok") > 1,
        scale=fields.number("routed_scaling_factor", 1.0, above=0),
        groups=fields.integer("n_group", 1, least=1),
        top_groups=fields.integer("topk_group", 1, least=1),
        shared_size=fields.integer("moe_intermediate_size") * fields.integer("num_shared_experts", 0),
    )


FAMILY = Llada2(FACTS)
