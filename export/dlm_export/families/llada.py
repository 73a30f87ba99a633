"""LLaDA 8B and 1.5: a Llama trained to unmask, fully bidirectional, no shift."""

from __future__ import annotations

from ..backbones.denoiser import DenoiserConfig
from ..checkpoint import Checkpoint
from .config_fields import ConfigFields, config_fields
from .decoder_family import DecoderFamily
from .family import FamilyFacts

FACTS = FamilyFacts(
    name="llada",
    architecture="LLaDAModelLM",
    context_masks=("bidirectional",),
    mask_names=("<|mdm_mask|>", "<|mask|>"),
    stop_names=("<|eot_id|>",),
    published_mask_id=126336,
    published_eos_id=126081,
)
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ff_norm",
    "self_attn.q_proj": "q_proj",
    "self_attn.k_proj": "k_proj",
    "self_attn.v_proj": "v_proj",
    "self_attn.qkv_proj": "qkv_proj",
    "self_attn.o_proj": "attn_out",
    "mlp.gate_proj": "ff_proj",
    "mlp.up_proj": "up_proj",
    "mlp.gate_up_proj": "ff_up_proj",
    "mlp.down_proj": "ff_out",
}
OUTER_NAMES = {"embed_tokens": "wte", "norm": "ln_f", "head": "ff_out"}
REQUIRED: dict[str, object] = {
    "activation_type": "silu",
    "alibi": False,
    "attention_layer_norm": False,
    "bias_for_layer_norm": False,
    "block_group_size": 1,
    "block_type": "llama",
    "clip_qkv": None,
    "include_bias": False,
    "input_emb_norm": False,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "rope": True,
    "scale_logits": False,
    "quantization_config": None,
    "rope_scaling": None,
}


class Llada(DecoderFamily):
    """OLMo's names and fields."""

    def checkpoint_key(self, name: str) -> str:
        """`layers.0.mlp.up_proj.weight` -> `model.transformer.blocks.0.up_proj.weight`."""
        module, kind = name.rsplit(".", 1)
        if not module.startswith("layers."):
            return f"model.transformer.{OUTER_NAMES[module]}.{kind}"
        _, layer, part = module.split(".", 2)
        return f"model.transformer.blocks.{layer}.{LAYER_NAMES[part]}.{kind}"

    def denoiser_config(self, fields: ConfigFields) -> DenoiserConfig:
        """Sizes by OLMo's field names."""
        for name, value in REQUIRED.items():
            fields.require(name, value)
        width, heads = fields.integer("d_model", least=1), fields.integer("n_heads", least=1)
        if width % heads:
            raise fields.error("d_model", f"is {width}, not a multiple of n_heads={heads}")
        shared_keys = 1 if fields.boolean("multi_query_attention", False) else heads
        feed_forward = fields.integer("mlp_ratio", 4, least=1) * width
        try:
            return DenoiserConfig(
                vocab_size=fields.integer("embedding_size", fields.integer("vocab_size", least=2), least=2),
                hidden_size=width,
                intermediate_size=fields.integer("mlp_hidden_size", feed_forward, least=1),
                layers=fields.integer("n_layers", least=1),
                heads=heads,
                kv_heads=fields.integer("n_kv_heads", shared_keys, least=1),
                head_dim=width // heads,
                rope_theta=fields.number("rope_theta", 10_000.0, above=1),
                norm_eps=fields.number("rms_norm_eps", 1e-5, above=0),
                tied=fields.boolean("weight_tying", False),
                qkv_bias=fields.boolean("include_qkv_bias", False),
            )
        except ValueError as error:
            raise fields.error("sizes", f"do not fit together: {error}") from error

    def max_context(self, checkpoint: Checkpoint) -> int:
        """`max_sequence_length`."""
        return config_fields(checkpoint).integer("max_sequence_length", least=2)


FAMILY = Llada(FACTS)
