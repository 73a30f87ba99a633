"""What the families of the dense and mixture-of-experts decoder share: key names and fields of a Hugging Face decoder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..backbones import Backbone
from ..backbones.denoiser import DenoiserBackbone, DenoiserConfig
from ..checkpoint import Checkpoint
from ..errors import shown
from .config_fields import ConfigFields, config_fields
from .family import FamilyFacts, SpecialOverrides, SpecialTokens, TensorSource
from .rope_fields import rope_scaling, rope_theta
from .special_tokens import family_tokens
from .tied_head import holds_another_head


@dataclass(frozen=True)
class DecoderFamily:
    """Stock names (`model.layers.N...`, `lm_head`) and fields; a family overrides `denoiser_config` and what else is its own."""

    facts: FamilyFacts

    def denoiser_config(self, fields: ConfigFields) -> DenoiserConfig:
        """Sizes from config.json. Raises CheckpointError for a field that is missing or that the backbone has no answer to."""
        return decoder_config(fields)

    def backbone(self, checkpoint: Checkpoint) -> Backbone:
        """The decoder of a checkpoint. A head that is stored besides counts as tied only if it is the embedding table again."""
        config = self.denoiser_config(config_fields(checkpoint))
        table, head = self.checkpoint_key(DenoiserBackbone.embedding_name), self.checkpoint_key("head.weight")
        if config.tied and holds_another_head(checkpoint, table, head, (config.vocab_size, config.hidden_size)):
            config = replace(config, tied=False)
        return DenoiserBackbone(config)

    def checkpoint_key(self, name: str) -> str:
        """`layers.0.mlp.up_proj.weight` -> `model.layers.0.mlp.up_proj.weight`; the head stands outside."""
        return name.replace("head.", "lm_head.", 1) if name.startswith("head.") else f"model.{name}"

    def source(self, name: str, shape: tuple[int, ...], backbone: Backbone) -> TensorSource:
        """Every tensor is stored by itself."""
        return TensorSource(self.checkpoint_key(name), shape)

    def max_context(self, checkpoint: Checkpoint) -> int:
        """`max_position_embeddings`."""
        return config_fields(checkpoint).integer("max_position_embeddings", least=2)

    def special_tokens(self, checkpoint: Checkpoint, overrides: SpecialOverrides) -> SpecialTokens:
        """Ids by the family's spellings; the block length is the family's unless config.json has one."""
        vocab_size = self.denoiser_config(config_fields(checkpoint)).vocab_size
        tokens = family_tokens(checkpoint, self.facts, overrides, vocab_size=vocab_size)
        trained, positions = self.facts.trained_positions, self.max_context(checkpoint)
        if trained is None or positions <= trained:
            return tokens
        note = (
            f"{self.facts.architecture} was trained on {trained} positions, prompt and reply together, not on the {positions} "
            "that config.json names. --max-context sets more."
        )
        return replace(tokens, notes=(*tokens.notes, note))


def decoder_config(fields: ConfigFields, *, head_dim: int | None = None, **switches: Any) -> DenoiserConfig:
    """A stock decoder's sizes; `head_dim` is what a config.json without one means, `switches` go to DenoiserConfig."""
    fields.require("hidden_act", "silu")
    fields.require("quantization_config", None)
    fields.require("use_sliding_window", False)
    if fields.values.get("use_sliding_window") is None:
        fields.require("sliding_window", None)
    for name in ("layer_types", "attn_type_list"):
        kinds = fields.items(name)
        if any(kind != "full_attention" for kind in kinds):
            raise fields.error(name, f"is {shown(kinds)}, only full attention can be exported")
    width, heads = fields.integer("hidden_size", least=1), fields.integer("num_attention_heads", least=1)
    if head_dim is None and fields.values.get("head_dim") is None and width % heads:
        raise fields.error("hidden_size", f"is {width}, not a multiple of num_attention_heads={heads}")
    width_of_head = fields.integer("head_dim", head_dim or max(width // heads, 1), least=1)
    values: dict[str, Any] = {
        "vocab_size": fields.integer("vocab_size", least=2),
        "hidden_size": width,
        "layers": fields.integer("num_hidden_layers", least=1),
        "heads": heads,
        "kv_heads": fields.integer("num_key_value_heads", heads, least=1),
        "head_dim": width_of_head,
        "rope_theta": rope_theta(fields, 10_000.0),
        "rope_scaling": rope_scaling(fields),
        "rotary_dim": rotary_dim(fields, width_of_head),
        "norm_eps": fields.number("rms_norm_eps", 1e-6, above=0),
        "tied": fields.boolean("tie_word_embeddings", False),
    }
    if "intermediate_size" not in switches:
        values["intermediate_size"] = fields.integer("intermediate_size", least=1)
    try:
        return DenoiserConfig(**(values | switches))
    except ValueError as error:
        raise fields.error("sizes", f"do not fit together: {error}") from error


def rotary_dim(fields: ConfigFields, head_dim: int) -> int | None:
    """How many dimensions turn, where `partial_rotary_factor` leaves some out."""
    rope = fields.section("rope_parameters")
    holder = rope if rope is not None and rope.values.get("partial_rotary_factor") is not None else fields
    factor = holder.number("partial_rotary_factor", 1.0, above=0)
    if factor > 1:
        raise holder.error("partial_rotary_factor", f"is {factor:g}, expected at most 1")
    return int(head_dim * factor) if factor < 1 else None


def without_head_dim(fields: ConfigFields) -> ConfigFields:
    """For code that divides the width by the heads, whatever `head_dim` says."""
    return ConfigFields(fields.file, {name: value for name, value in fields.values.items() if name != "head_dim"})
