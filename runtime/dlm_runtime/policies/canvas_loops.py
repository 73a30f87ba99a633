"""Loops of models that see their whole canvas, with the numbers their publishers recommend."""

from __future__ import annotations

from dlm_runtime.bundle import Manifest
from dlm_runtime.policies.block_loops import mask_of
from dlm_runtime.policies.dllm_mdlm import DllmMdlm
from dlm_runtime.policies.dream import Dream
from dlm_runtime.policies.fast_dllm_v1 import BlockCache, FastDllmV1
from dlm_runtime.policies.fast_dllm_v1_dream import FastDllmV1Dream
from dlm_runtime.policies.llada import Llada
from dlm_runtime.policies.loop import Loop, of_families
from dlm_runtime.policies.passes import Policy

MDLM_STEPS = 128


def sees_all(manifest: Manifest) -> bool:
    """A bidirectional model with a mask: anything that can be decoded as dllm's MDLM sampler does it."""
    return manifest.context_mask == "bidirectional" and manifest.mask_token_id is not None


def llada(manifest: Manifest, threshold: float) -> Policy:
    """LLaDA, one position a pass as published; it has no threshold."""
    return Llada(manifest.block_length, steps=manifest.max_context, mask_token_id=mask_of(manifest))


def fast_dllm_v1(cache: BlockCache, manifest: Manifest, threshold: float) -> Policy:
    """Fast-dLLM v1: 0.9."""
    return FastDllmV1(manifest.block_length, mask_of(manifest), threshold=threshold, cache=cache)


def dream(manifest: Manifest, threshold: float) -> Policy:
    """Dream's schedule over 512 steps, of which those that commit nothing are not run; it has no threshold."""
    return Dream(mask_of(manifest))


def fast_dllm_v1_dream(cache: BlockCache, manifest: Manifest, threshold: float) -> Policy:
    """Fast-dLLM v1 for Dream: 0.9."""
    return FastDllmV1Dream(manifest.block_length, mask_of(manifest), threshold=threshold, cache=cache)


def mdlm(manifest: Manifest, threshold: float) -> Policy:
    """dllm's sampler; it has no threshold."""
    return DllmMdlm(manifest.block_length, MDLM_STEPS, mask_of(manifest), shift=manifest.logit_shift)


LLADA, DREAM = of_families("llada", "llada_moe"), of_families("dream")
CANVAS_LOOPS: tuple[Loop, ...] = (
    Loop("llada", LLADA, llada, guides=True),
    Loop("fast_dllm_v1_none", LLADA, lambda manifest, threshold: fast_dllm_v1("none", manifest, threshold), guides=True),
    Loop("fast_dllm_v1_prefix", LLADA, lambda manifest, threshold: fast_dllm_v1("prefix", manifest, threshold)),
    Loop("fast_dllm_v1_dual", LLADA, lambda manifest, threshold: fast_dllm_v1("dual", manifest, threshold)),
    Loop("dream", DREAM, dream, guides=True),
    Loop("fast_dllm_v1_dream_prefix", DREAM, lambda manifest, threshold: fast_dllm_v1_dream("prefix", manifest, threshold)),
    Loop("fast_dllm_v1_dream_dual", DREAM, lambda manifest, threshold: fast_dllm_v1_dream("dual", manifest, threshold)),
    Loop("dllm_mdlm", sees_all, mdlm, guides=True),
)
