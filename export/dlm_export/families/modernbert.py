"""ModernBERT: a masked language model with rotary positions, whose layers mostly look at their neighbourhood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..backbones import Backbone
from ..backbones.modernbert import ModernBertBackbone, ModernBertConfig
from ..checkpoint import Checkpoint
from .config_fields import ConfigFields, config_fields
from .family import TensorSource
from .masked_lm import MaskedLmFamily, is_tied, masked_lm_facts, read_activation

FACTS = masked_lm_facts("modernbert", "ModernBertForMaskedLM")
FULL, SLIDING = "full_attention", "sliding_attention"
GLOBAL_THETA, LOCAL_THETA = 160_000.0, 10_000.0
TABLE = "model.embeddings.tok_embeddings.weight"
DECODER = "decoder.weight"
NODES = {
    "embeddings": "model.embeddings.tok_embeddings",
    "embedding_norm": "model.embeddings.norm",
    "final_norm": "model.final_norm",
    "transform": "head.dense",
    "transform_norm": "head.norm",
    "head": "decoder",
}
LAYER_NODES = {
    "attention_norm": "attn_norm",
    "qkv": "attn.Wqkv",
    "attention_out": "attn.Wo",
    "mlp_norm": "mlp_norm",
    "mlp_in": "mlp.Wi",
    "mlp_out": "mlp.Wo",
}


@dataclass(frozen=True)
class StoredModernBert(ModernBertBackbone):
    """The network, and which of its tensors this checkpoint keeps under other keys than usual."""

    other_keys: Mapping[str, str] = field(default_factory=dict)


class ModernBert(MaskedLmFamily):
    """Key names `model.*`, `head.*` and `decoder`; switches for every bias."""

    def backbone(self, checkpoint: Checkpoint) -> Backbone:
        """Sizes from config.json. Raises CheckpointError for a field that is missing or that the backbone has no answer to."""
        fields = config_fields(checkpoint)
        fields.require("quantization_config", None)
        global_theta, local_theta = read_thetas(fields)
        vocab_size, hidden_size = fields.integer("vocab_size", least=2), fields.integer("hidden_size", least=1)
        tied = is_tied(checkpoint, TABLE, DECODER, (vocab_size, hidden_size))
        try:
            config = ModernBertConfig(
                vocab_size=vocab_size,
                hidden_size=hidden_size,
                intermediate_size=fields.integer("intermediate_size", least=1),
                layers=fields.integer("num_hidden_layers", least=1),
                heads=fields.integer("num_attention_heads", least=1),
                norm_eps=fields.number("norm_eps", 1e-5, above=0),
                window=fields.integer("local_attention", 128) // 2,
                global_theta=global_theta,
                local_theta=local_theta,
                global_every=fields.integer("global_attn_every_n_layers", 3, least=1),
                local_layers=read_local_layers(fields),
                activation=read_activation(fields, "hidden_activation"),
                head_activation=read_activation(fields, "classifier_activation"),
                norm_bias=fields.boolean("norm_bias", False),
                attention_bias=fields.boolean("attention_bias", False),
                mlp_bias=fields.boolean("mlp_bias", False),
                head_bias=fields.boolean("classifier_bias", False),
                decoder_bias=fields.boolean("decoder_bias", True),
                tied=tied,
            )
        except ValueError as error:
            raise fields.error("sizes", f"do not fit together: {error}") from error
        fields.require("head_dim", config.head_dim)
        only_decoder = tied and TABLE not in checkpoint.shard_of and DECODER in checkpoint.shard_of
        return StoredModernBert(config, {TABLE: DECODER} if only_decoder else {})

    def checkpoint_key(self, name: str) -> str:
        """`layers.3.mlp_in.weight` -> `model.layers.3.mlp.Wi.weight`."""
        *at, node, part = name.split(".")
        return f"model.layers.{at[1]}.{LAYER_NODES[node]}.{part}" if at else f"{NODES[node]}.{part}"

    def source(self, name: str, shape: tuple[int, ...], backbone: Backbone) -> TensorSource:
        """Every tensor is stored as it is."""
        key = self.checkpoint_key(name)
        assert isinstance(backbone, StoredModernBert)
        return TensorSource(backbone.other_keys.get(key, key), shape)


def read_local_layers(fields: ConfigFields) -> frozenset[int] | None:
    """The layers that `layer_types` calls local, None where it is absent."""
    types = fields.values.get("layer_types")
    if types is None:
        return None
    count = fields.integer("num_hidden_layers", least=1)
    if not isinstance(types, list) or len(types) != count or any(kind not in (FULL, SLIDING) for kind in types):
        raise fields.error("layer_types", f"has to name {FULL} or {SLIDING} for each of num_hidden_layers={count} layers")
    return frozenset(index for index, kind in enumerate(types) if kind == SLIDING)


def read_thetas(fields: ConfigFields) -> tuple[float, float]:
    """Rotary bases of global and local layers: `rope_parameters` by kind of layer, or the fields of older configs.

    There, null for the local layers means that all turn alike, which absence does not.
    """
    fields.require("rope_scaling", None)
    ropes = fields.section("rope_parameters") or ConfigFields(fields.file, {}, "rope_parameters.")
    for flat in ("rope_theta", "rope_type"):
        if flat in ropes.values:
            raise ropes.error(flat, f"is not understood: it stands for no kind of layer, {FULL} or {SLIDING}")
    global_theta = read_theta(ropes, FULL, fields.number("global_rope_theta", GLOBAL_THETA, above=0))
    shared = "local_rope_theta" in fields.values and fields.values["local_rope_theta"] is None
    local_default = global_theta if shared else fields.number("local_rope_theta", LOCAL_THETA, above=0)
    return global_theta, read_theta(ropes, SLIDING, local_default)


def read_theta(ropes: ConfigFields, kind: str, default: float) -> float:
    """The rotary base of one kind of layer."""
    rope = ropes.section(kind)
    if rope is None:
        return default
    rope.require("rope_type", "default")
    rope.require("type", "default")
    rope.require("partial_rotary_factor", 1)
    return rope.number("rope_theta", default, above=0)


FAMILY = ModernBert(FACTS)
