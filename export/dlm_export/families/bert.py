"""BERT: the smallest denoisers there are, published with every library since 2018."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..backbones import Backbone
from ..backbones.bert import BertBackbone, BertConfig
from ..checkpoint import Checkpoint
from .config_fields import config_fields
from .family import TensorSource
from .masked_lm import MaskedLmFamily, is_tied, masked_lm_facts, read_activation

FACTS = masked_lm_facts("bert", "BertForMaskedLM")
WORDS = "bert.embeddings.word_embeddings.weight"
DECODER = "cls.predictions.decoder.weight"
BIAS = "cls.predictions.bias"
DECODER_BIAS = "cls.predictions.decoder.bias"
NODES = {
    "word_embeddings": "bert.embeddings.word_embeddings",
    "position_embeddings": "bert.embeddings.position_embeddings",
    "token_type_embeddings": "bert.embeddings.token_type_embeddings",
    "embedding_norm": "bert.embeddings.LayerNorm",
    "transform": "cls.predictions.transform.dense",
    "transform_norm": "cls.predictions.transform.LayerNorm",
    "head": "cls.predictions.decoder",
}
LAYER_NODES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "qkv": "attention.self.qkv",
    "attention_out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "output_norm": "output.LayerNorm",
}


@dataclass(frozen=True)
class StoredBert(BertBackbone):
    """The network, and which of its tensors this checkpoint keeps under other keys than today's."""

    other_keys: Mapping[str, str] = field(default_factory=dict)


class Bert(MaskedLmFamily):
    """Key names `bert.*` and `cls.predictions.*`; pooler and next-sentence head are left out."""

    def backbone(self, checkpoint: Checkpoint) -> Backbone:
        """Sizes from config.json. Raises CheckpointError for a field that is missing or that the backbone has no answer to."""
        fields = config_fields(checkpoint)
        fields.require("position_embedding_type", "absolute")
        fields.require("is_decoder", False)
        fields.require("add_cross_attention", False)
        fields.require("pruned_heads", {})
        fields.require("quantization_config", None)
        vocab_size, hidden_size = fields.integer("vocab_size", least=2), fields.integer("hidden_size", least=1)
        tied = is_tied(checkpoint, WORDS, DECODER, (vocab_size, hidden_size))
        try:
            config = BertConfig(
                vocab_size=vocab_size,
                hidden_size=hidden_size,
                intermediate_size=fields.integer("intermediate_size", least=1),
                layers=fields.integer("num_hidden_layers", least=1),
                heads=fields.integer("num_attention_heads", least=1),
                positions=fields.integer("max_position_embeddings", least=2),
                token_types=fields.integer("type_vocab_size", 2, least=1),
                norm_eps=fields.number("layer_norm_eps", 1e-12, above=0),
                activation=read_activation(fields, "hidden_act"),
                tied=tied,
            )
        except ValueError as error:
            raise fields.error("sizes", f"do not fit together: {error}") from error
        return StoredBert(config, other_keys(checkpoint, tied=tied))

    def checkpoint_key(self, name: str) -> str:
        """`layers.0.up.weight` -> `bert.encoder.layer.0.intermediate.dense.weight`; the head's bias stands beside its layer."""
        if name == "head.bias":
            return BIAS
        *at, node, part = name.split(".")
        return f"bert.encoder.layer.{at[1]}.{LAYER_NODES[node]}.{part}" if at else f"{NODES[node]}.{part}"

    def source(self, name: str, shape: tuple[int, ...], backbone: Backbone) -> TensorSource:
        """Every tensor is stored as it is, some under older names."""
        key = self.checkpoint_key(name)
        assert isinstance(backbone, StoredBert)
        return TensorSource(backbone.other_keys.get(key, key), shape)


def other_keys(checkpoint: Checkpoint, *, tied: bool) -> dict[str, str]:
    """Today's key -> the one that is stored: norms of the first checkpoints have a gamma and a beta; the head has two names."""
    stored = checkpoint.shard_of
    found: dict[str, str] = {}
    for key in stored:
        today = key.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        if today not in stored:
            found[today] = key
    if DECODER_BIAS in stored:  # the head's own, where there are two: transformers adds no other
        found[BIAS] = DECODER_BIAS
    if tied and WORDS not in stored and DECODER in stored:
        found[WORDS] = DECODER
    return found


FAMILY = Bert(FACTS)
