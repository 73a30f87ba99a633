"""Fast-dLLM v2: a Qwen2.5 turned into a block diffusion model, block-causal context; logits at a position speak of the next one."""

from __future__ import annotations

from ..backbones.denoiser import DenoiserConfig
from .config_fields import ConfigFields
from .decoder_family import DecoderFamily, decoder_config
from .family import FamilyFacts

FACTS = FamilyFacts(
    name="fast_dllm_v2",
    architecture="Fast_dLLM_QwenForCausalLM",
    context_masks=("block_causal",),
    logit_shift=1,
    mask_names=("|<MASK>|", "<|mask|>"),
    published_mask_id=151665,
    published_eos_id=151645,
    block_field="bd_size",
)


class FastDllmV2(DecoderFamily):
    """Queries, keys and values have biases."""

    def denoiser_config(self, fields: ConfigFields) -> DenoiserConfig:
        """Qwen2's numbers."""
        return decoder_config(fields, qkv_bias=True)


FAMILY = FastDllmV2(FACTS)
