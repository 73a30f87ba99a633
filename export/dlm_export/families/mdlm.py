"""MDLM and BD3-LM: diffusion transformers over GPT-2's tokens. The one sees a whole canvas both ways, the other decodes block by block.

Both have an adaLN network conditioned on the noise level, and both were released with that level fixed at 0, so the network is a constant
and folded into the weights. A checkpoint with `time_conditioning: true` is refused: it would need the noise level as an input of every
step. Logits speak of their own position; the mask's logit is trained but never to be sampled, which is the unmasking's affair.

Source of the fields: github.com/kuleshov-group/mdlm and github.com/kuleshov-group/bd3lms (`models/hf`).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..backbones import Backbone
from ..backbones.dit import DitBackbone, DitConfig
from ..checkpoint import Checkpoint
from .config_fields import ConfigFields, config_fields
from .family import FamilyFacts, SpecialOverrides, SpecialTokens, TensorSource
from .special_tokens import resolve_special_tokens


@dataclass(frozen=True)
class DitFamily:
    """The common part: key names as published, `backbone.` in front of the network's own."""

    facts: FamilyFacts

    def backbone(self, checkpoint: Checkpoint) -> Backbone:
        """Sizes from config.json. Raises CheckpointError for a field that is missing or that the backbone has no answer to."""
        fields = config_fields(checkpoint)
        fields.require("quantization_config", None)
        adaln = self.adaln(fields)
        if adaln and fields.boolean("time_conditioning", False):
            problem = "is True, so the network wants the noise level at every step, which a step does not have as an input"
            raise fields.error("time_conditioning", problem, "Take a checkpoint without time conditioning")
        try:
            return DitBackbone(
                DitConfig(
                    vocab_size=fields.integer("vocab_size", least=2),
                    hidden_size=fields.integer("hidden_dim", least=1),
                    layers=fields.integer("n_blocks", least=1),
                    heads=fields.integer("n_heads", least=1),
                    cond_size=fields.integer("cond_dim", least=1) if adaln else 1,
                    adaln=adaln,
                )
            )
        except ValueError as error:
            raise fields.error("sizes", f"do not fit together: {error}") from error

    def adaln(self, fields: ConfigFields) -> bool:
        """Whether there is an adaLN network: always, unless config.json has a say."""
        fields.require("adaln", True)
        return True

    def block_length(self, checkpoint: Checkpoint) -> int:
        """How many positions are denoised together: any number where training knew no blocks."""
        return min(self.facts.block_length, self.max_context(checkpoint))

    def special_tokens(self, checkpoint: Checkpoint, overrides: SpecialOverrides) -> SpecialTokens:
        """GPT-2 has no mask, so one was appended to its vocabulary: the last id. Text begins and ends with the id before it."""
        vocab_size = config_fields(checkpoint).integer("vocab_size", least=2)
        return resolve_special_tokens(
            checkpoint,
            vocab_size=vocab_size,
            block_length=self.block_length(checkpoint),
            overrides=overrides,
            mask_names=self.facts.mask_names,
            eos_names=self.facts.eos_names,
            pad_names=("[PAD]",),
            bos_names=("<|endoftext|>", "[BOS]", "[CLS]"),
            mask_default=vocab_size - 1,
            eos_default=vocab_size - 2,
            bos_default=vocab_size - 2,
        )

    def max_context(self, checkpoint: Checkpoint) -> int:
        """`model_length`."""
        return config_fields(checkpoint).integer("model_length", least=2)

    def checkpoint_key(self, name: str) -> str:
        """`blocks.0.norm1.weight` -> `backbone.blocks.0.norm1.weight`."""
        return f"backbone.{name}"

    def source(self, name: str, shape: tuple[int, ...], backbone: Backbone) -> TensorSource:
        """Every tensor is stored by itself."""
        return TensorSource(self.checkpoint_key(name), shape)


class BlockDitFamily(DitFamily):
    """BD3-LM: switches in config.json, and a block length that the checkpoint was trained for."""

    def adaln(self, fields: ConfigFields) -> bool:
        """`adaln`. The autoregressive baseline, which has the same class, is refused on the way."""
        if fields.boolean("causal", False):
            problem = "is True: this is the autoregressive baseline, whose logits speak of the next token"
            raise fields.error("causal", problem, "Take a block diffusion checkpoint")
        if not fields.boolean("cross_attn", True):
            problem = "is False: this network sees its context both ways, which is MDLM and not block diffusion"
            raise fields.error("cross_attn", problem, "Name MDLM in architectures")
        return fields.boolean("adaln", True)

    def block_length(self, checkpoint: Checkpoint) -> int:
        """`block_size`, 1 where config.json has none, and at most `model_length`."""
        fields = config_fields(checkpoint)
        block_size, positions = fields.integer("block_size", 1, least=1), self.max_context(checkpoint)
        if block_size > positions:
            raise fields.error("block_size", f"is {block_size}, more than model_length={positions}")
        return block_size


NAMES = {"mask_names": ("[MASK]",), "eos_names": ("<|endoftext|>", "[EOS]", "[SEP]")}
MDLM = DitFamily(FamilyFacts(name="mdlm", architecture="MDLM", context_masks=("bidirectional",), **NAMES))
BD3LM = BlockDitFamily(FamilyFacts(name="bd3lm", architecture="BD3LM", context_masks=("block_causal",), **NAMES))
