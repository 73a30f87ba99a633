"""DiffusionGemma: canvases of random tokens, denoised by a bidirectional decoder against what a causal encoder kept of the context.

There is no mask token. Only the decoder's copy of the weights is stored, but for the encoder's layer scalars; the vision tower that comes
along is left out.
"""

from __future__ import annotations

from ..backbones import Backbone
from ..backbones.diffusion_gemma import AttentionKind, DiffusionGemmaBackbone, DiffusionGemmaConfig
from ..checkpoint import Checkpoint
from .config_fields import ConfigFields, config_fields
from .family import FamilyFacts, SpecialOverrides, SpecialTokens, TensorSource
from .special_tokens import resolve_special_tokens

FACTS = FamilyFacts(
    name="diffusion_gemma",
    architecture="DiffusionGemmaForBlockDiffusion",
    context_masks=("causal",),
    block_field="canvas_length",
    block_length=256,
)
FULL, SLIDING = "full_attention", "sliding_attention"
PATTERN = 6  # one layer in so many is full where config.json has no layer_types
DEFAULT_ROPE = {  # what the published code assumes where config.json has no rope_parameters
    SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
    FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1_000_000.0},
}


class DiffusionGemma:
    """Sizes and ids from `text_config`, the canvas length from beside it."""

    @property
    def facts(self) -> FamilyFacts:
        """The family's constants."""
        return FACTS

    def backbone(self, checkpoint: Checkpoint) -> Backbone:
        """Sizes from config.json. Raises CheckpointError for a field that is missing or that the backbone has no answer to."""
        fields = config_fields(checkpoint)
        fields.require("tie_word_embeddings", True)
        fields.require("quantization_config", None)
        text = text_fields(fields)
        text.require("tie_word_embeddings", True)
        text.require("hidden_activation", "gelu_pytorch_tanh")
        text.require("attention_bias", False)  # encoder and decoder would have different ones
        text.require("use_bidirectional_attention", None, "vision")  # the latter concerns images alone
        text.require("attention_k_eq_v", True)
        full_layers = find_full_layers(text, checkpoint)
        try:
            config = DiffusionGemmaConfig(
                vocab_size=text.integer("vocab_size", least=2),
                hidden_size=text.integer("hidden_size", least=1),
                intermediate_size=text.integer("intermediate_size", least=1),
                layers=text.integer("num_hidden_layers", least=1),
                heads=text.integer("num_attention_heads", least=1),
                sliding=sliding_attention(text),
                full=full_attention(text, full_layers),
                full_layers=full_layers,
                experts=text.integer("num_experts", least=1),
                experts_per_token=text.integer("top_k_experts", least=1),
                expert_size=text.integer("moe_intermediate_size", least=1),
                norm_eps=text.number("rms_norm_eps", 1e-6, above=0),
                logit_cap=text.number("final_logit_softcapping", 30.0, above=0),
            )
        except ValueError as error:
            raise text.error("sizes", f"do not fit together: {error}") from error
        return DiffusionGemmaBackbone(config)

    def special_tokens(self, checkpoint: Checkpoint, overrides: SpecialOverrides) -> SpecialTokens:
        """Ids and the canvas length. Raises CheckpointError where an end of text is missing, or a mask token asked for."""
        fields = config_fields(checkpoint)
        if overrides.mask_token_id is not None:
            raise fields.error("mask_token_id", "was given, but canvases of this family start from random tokens", "Leave it out")
        text = text_fields(fields)
        return resolve_special_tokens(
            checkpoint,
            vocab_size=text.integer("vocab_size", least=2),
            block_length=canvas_length(fields),
            overrides=overrides,
            text_config=text,
            mask_required=False,
        )

    def max_context(self, checkpoint: Checkpoint) -> int:
        """`max_position_embeddings`, which has to hold at least one canvas."""
        fields = config_fields(checkpoint)
        positions = text_fields(fields).integer("max_position_embeddings", least=2)
        canvas = canvas_length(fields)
        if canvas > positions:
            raise fields.error("canvas_length", f"is {canvas}, more than max_position_embeddings={positions}")
        return positions

    def checkpoint_key(self, name: str) -> str:
        """The decoder's key, but for the encoder's scalars."""
        if name.endswith(".encoder_layer_scalar"):
            return f"model.encoder.language_model.{name.replace('encoder_layer_scalar', 'layer_scalar')}"
        return f"model.decoder.{name}"

    def source(self, name: str, shape: tuple[int, ...], backbone: Backbone) -> TensorSource:
        """As `checkpoint_key`, but that experts are stacked, one tensor a layer and projection."""
        at, mark, rest = name.partition(".experts.")
        if not mark:
            return TensorSource(self.checkpoint_key(name), shape)
        index, projection, _ = rest.split(".")
        stacked = (backbone.config.experts, *shape) if isinstance(backbone, DiffusionGemmaBackbone) else shape
        return TensorSource(self.checkpoint_key(f"{at}.experts.{projection}"), stacked, (int(index),))


def canvas_length(fields: ConfigFields) -> int:
    """How many positions are denoised together."""
    return fields.integer("canvas_length", FACTS.block_length, least=1)


def text_fields(fields: ConfigFields) -> ConfigFields:
    """`text_config`, without which there is nothing to read."""
    text = fields.section("text_config")
    if text is None:
        raise fields.error("text_config", "is missing")
    return text


def find_full_layers(text: ConfigFields, checkpoint: Checkpoint) -> frozenset[int]:
    """Layers without a window: from `layer_types`, else every sixth. The last one is always among them, as in the published code."""
    types, count = text.values.get("layer_types"), text.integer("num_hidden_layers", least=1)
    if types is None:
        if count > len(checkpoint.shard_of):  # and before all of them are listed
            raise text.error("num_hidden_layers", f"is {count}, but there are only {len(checkpoint.shard_of)} tensors")
        return frozenset({*range(PATTERN - 1, count, PATTERN), count - 1})
    if not isinstance(types, list) or len(types) != count or not set(map(str, types)) <= {FULL, SLIDING}:
        raise text.error("layer_types", f"has to name {FULL} or {SLIDING} for each of num_hidden_layers={count} layers")
    return frozenset({index for index, kind in enumerate(types) if kind == FULL} | {count - 1})


def sliding_attention(text: ConfigFields) -> AttentionKind:
    """Attention of the layers with a window."""
    head_dim, kv_heads = text.integer("head_dim", least=2), text.integer("num_key_value_heads", least=1)
    return rotating(text, SLIDING, head_dim, kv_heads, text.integer("sliding_window", least=2))


def full_attention(text: ConfigFields, full_layers: frozenset[int]) -> AttentionKind:
    """Attention of the layers without: from `global_*`, or from `per_layer_config`, as newer versions of transformers write them."""
    kv_heads, layers = text.integer("num_key_value_heads", least=1), text.section("per_layer_config")
    if layers is None:
        head_dim = text.integer("global_head_dim", 512, least=2)
        return rotating(text, FULL, head_dim, text.integer("num_global_key_value_heads", kv_heads, least=1))
    digits = max(map(len, layers.values), default=0)  # keys are layers, with zeros in front up to the length of the longest
    own = [layers.section(str(index).zfill(digits)) for index in sorted(full_layers)]
    first = own[0]
    alike = first is not None and all(section is not None and section.values == first.values for section in own)
    if first is None or not alike or len(layers.values) != len(own) or not set(first.values) <= {"head_dim", "num_key_value_heads"}:
        problem = f"has to give the same head_dim and num_key_value_heads to every layer of {FULL}, and nothing else"
        raise text.error("per_layer_config", problem)
    head_dim = first.integer("head_dim", text.integer("head_dim", least=2), least=2)
    return rotating(text, FULL, head_dim, first.integer("num_key_value_heads", kv_heads, least=1))


def rotating(text: ConfigFields, kind: str, head_dim: int, kv_heads: int, window: int | None = None) -> AttentionKind:
    """Add the rotary embedding of a kind of layers."""
    ropes = text.section("rope_parameters") or ConfigFields(text.file, DEFAULT_ROPE, f"{text.prefix}rope_parameters.")
    rope = ropes.section(kind)
    if rope is None:
        raise ropes.error(kind, "is missing")
    rope.require("rope_type", "default", "proportional")
    if rope.values.get("rope_type") != "proportional":
        rope.require("partial_rotary_factor", 1)
        return AttentionKind(head_dim, kv_heads, rope.number("rope_theta", above=1), head_dim // 2, window=window)
    pairs = int(rope.number("partial_rotary_factor", 1.0) * head_dim // 2)
    return AttentionKind(head_dim, kv_heads, rope.number("rope_theta", above=1), pairs, rope.number("factor", 1.0, above=0), window)


FAMILY = DiffusionGemma()
