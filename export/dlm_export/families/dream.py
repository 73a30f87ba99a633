"""Dream: a Qwen2.5 trained to unmask, fully bidirectional; logits at a position speak of the next one."""

from __future__ import annotations

from ..backbones.denoiser import DenoiserConfig
from .config_fields import ConfigFields
from .decoder_family import DecoderFamily, decoder_config, without_head_dim
from .family import FamilyFacts

FACTS = FamilyFacts(
    name="dream",
    architecture="DreamModel",
    context_masks=("bidirectional",),
    logit_shift=1,
    mask_names=("<|mask|>",),
    stop_names=("<|im_end|>",),
    published_mask_id=151666,
    published_eos_id=151643,
    trained_positions=2048,
)


class Dream(DecoderFamily):
    """Queries, keys and values have biases."""

    def denoiser_config(self, fields: ConfigFields) -> DenoiserConfig:
        """Qwen2's numbers."""
        fields.require("use_mrope", False)
        return decoder_config(without_head_dim(fields), qkv_bias=True)


FAMILY = Dream(FACTS)
