"""What the encoders trained by masked language modelling have in common: activations, a tied head, tokens such as [MASK]."""

from __future__ import annotations

from dataclasses import dataclass

from ..checkpoint import Checkpoint
from ..graph.activation import Activation
from .config_fields import ConfigFields, config_fields
from .family import FamilyFacts, SpecialOverrides, SpecialTokens
from .special_tokens import resolve_special_tokens
from .tied_head import holds_another_head

# Hugging Face has a name for every way in which the same function was once written.
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


@dataclass(frozen=True)
class MaskedLmFamily:
    """A denoiser that sees its whole context both ways and was trained without blocks."""

    facts: FamilyFacts

    def special_tokens(self, checkpoint: Checkpoint, overrides: SpecialOverrides) -> SpecialTokens:
        """Text stands between [CLS] and [SEP]; config.json goes before the tokenizer files, which have the mask."""
        fields = config_fields(checkpoint)
        return resolve_special_tokens(
            checkpoint,
            vocab_size=fields.integer("vocab_size", least=2),
            block_length=min(self.facts.block_length, self.max_context(checkpoint)),
            overrides=overrides,
            mask_names=self.facts.mask_names,
            eos_names=self.facts.eos_names,
            pad_names=("[PAD]",),
            bos_names=("[CLS]",),
            eos_default=optional_id(fields, "sep_token_id"),
            bos_default=optional_id(fields, "cls_token_id"),
        )

    def max_context(self, checkpoint: Checkpoint) -> int:
        """`max_position_embeddings`: what the positions were trained for, or a table of them holds."""
        return config_fields(checkpoint).integer("max_position_embeddings", least=2)


def masked_lm_facts(name: str, architecture: str) -> FamilyFacts:
    """The constants."""
    return FamilyFacts(name=name, architecture=architecture, context_masks=("bidirectional",), mask_names=("[MASK]",), eos_names=("[SEP]",))


def optional_id(fields: ConfigFields, name: str) -> int | None:
    """A token id, or None where the field is absent or null."""
    return None if fields.values.get(name) is None else fields.integer(name)


def read_activation(fields: ConfigFields, name: str) -> Activation:
    """The activation that a field names, gelu where it is absent."""
    fields.require(name, *ACTIVATIONS)
    return ACTIVATIONS[fields.values.get(name) or "gelu"]


def is_tied(checkpoint: Checkpoint, table: str, head: str, shape: tuple[int, int]) -> bool:
    """Whether the head multiplies by the embedding table [V, D].

    A checkpoint may store both although its config ties them: then the values decide, as in transformers 5.
    """
    if not config_fields(checkpoint).boolean("tie_word_embeddings", True):
        return False
    return not holds_another_head(checkpoint, table, head, shape)
