"""Loops of models that finish a block before they begin the next, with the numbers their publishers recommend."""

from __future__ import annotations

from dlm_runtime.bundle import Manifest
from dlm_runtime.policies.bd3lm import BlockSampler
from dlm_runtime.policies.diffusion import ThresholdDiffusion
from dlm_runtime.policies.diffusion_gemma import CanvasDiffusion
from dlm_runtime.policies.fast_dllm_v2 import SubBlockDiffusion
from dlm_runtime.policies.llada2 import LLaDA2, LLaDA21
from dlm_runtime.policies.loop import Loop, of_families
from dlm_runtime.policies.passes import Policy
from dlm_runtime.policies.s2d2 import SelfSpeculation
from dlm_runtime.policies.sdar import BlockDiffusion, Strategy

SUB_BLOCK = 8  # of Fast-dLLM v2


def mask_of(manifest: Manifest) -> int:
    """The mask token. Raises ValueError where there is none; loops that need one fit no such model."""
    if manifest.mask_token_id is None:
        raise ValueError(f"{manifest.mask_token_id=}: this loop fills in masks")
    return manifest.mask_token_id


def has_causal_context(manifest: Manifest) -> bool:
    """Blocks are stored causally, and logits speak of their own position: Nemotron-Labs-Diffusion, and whatever was made like it."""
    return manifest.context_mask == "causal" and manifest.logit_shift == 0 and manifest.mask_token_id is not None


def has_block_context(manifest: Manifest) -> bool:
    """Blocks see themselves whole, and there is a mask: anything that can be decoded as dllm's BD3LM sampler does it."""
    return manifest.context_mask == "block_causal" and manifest.mask_token_id is not None


def nemotron(manifest: Manifest, threshold: float) -> Policy:
    """Nemotron-Labs-Diffusion: 0.9."""
    return ThresholdDiffusion(manifest.block_length, mask_of(manifest), threshold)


def sdar(strategy: Strategy, manifest: Manifest, threshold: float) -> Policy:
    """SDAR: as many steps as a block has positions, 0.85 where the strategy has a threshold."""
    return BlockDiffusion(manifest.block_length, mask_of(manifest), manifest.block_length, strategy, threshold)


def s2d2(manifest: Manifest, threshold: float) -> Policy:
    """S2D2 for SDAR, verifying every first run of masks."""
    length = manifest.block_length
    banned = (mask_of(manifest), *manifest.banned_token_ids)
    return SelfSpeculation(length, mask_of(manifest), length, threshold=threshold, banned_token_ids=banned)


def llada2(manifest: Manifest, threshold: float) -> Policy:
    """LLaDA2.0: as many steps as a block has positions, 0.95."""
    return LLaDA2(manifest.block_length, mask_of(manifest), threshold, steps=manifest.block_length)


def llada21(manifest: Manifest, threshold: float) -> Policy:
    """LLaDA2.1: corrects what it is 0.9 sure of, in up to 16 passes more."""
    return LLaDA21(manifest.block_length, mask_of(manifest), threshold)


def fast_dllm_v2(manifest: Manifest, threshold: float) -> Policy:
    """Fast-dLLM v2: sub-blocks of 8, 0.9."""
    length = manifest.block_length
    sub_block = max(size for size in range(1, min(SUB_BLOCK, length) + 1) if length % size == 0)
    return SubBlockDiffusion(length, mask_of(manifest), sub_block, threshold)


def bd3lm(manifest: Manifest, threshold: float) -> Policy:
    """dllm's sampler, one position a pass and all others that are sure enough."""
    length = manifest.block_length
    return BlockSampler(length, mask_of(manifest), steps_per_block=length, shift=manifest.logit_shift, threshold=threshold)


def diffusion_gemma(manifest: Manifest, threshold: float) -> Policy:
    """DiffusionGemma, which has no threshold: entropy bound 0.1, at most 48 steps, temperature 0.8 to 0.4."""
    return CanvasDiffusion(manifest.block_length, manifest.vocab_size)


SDAR = of_families("sdar", "sdar_moe")
BLOCK_LOOPS: tuple[Loop, ...] = (
    Loop("nemotron_diffusion", has_causal_context, nemotron),
    Loop("sdar", SDAR, lambda manifest, threshold: sdar("low_confidence_dynamic", manifest, threshold)),
    Loop("sdar_static", SDAR, lambda manifest, threshold: sdar("low_confidence_static", manifest, threshold)),
    Loop("sdar_sequential", SDAR, lambda manifest, threshold: sdar("sequential", manifest, threshold)),
    Loop("s2d2", SDAR, s2d2),
    Loop("llada2", of_families("llada2"), llada2),
    Loop("llada21", of_families("llada2"), llada21),
    Loop("fast_dllm_v2", of_families("fast_dllm_v2"), fast_dllm_v2),
    Loop("dllm_bd3lm", has_block_context, bd3lm, guides=True),
    Loop("diffusion_gemma", of_families("diffusion_gemma"), diffusion_gemma),
)
