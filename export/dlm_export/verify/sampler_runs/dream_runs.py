"""Dream's loop, and Fast-dLLM v1's for Dream."""

from __future__ import annotations

from collections.abc import Callable

from dlm_runtime.bundle import Manifest
from dlm_runtime.policies.dream import Dream
from dlm_runtime.policies.fast_dllm_v1 import BlockCache
from dlm_runtime.policies.fast_dllm_v1_dream import FastDllmV1Dream
from dlm_runtime.policies.passes import Measure
from dlm_runtime.policies.sampling import Sampling

from .parameters import Parameters, UnsupportedRun
from .prepared import PreparedRun, RecordedRun, by_place
from .rows import padded_rows

MEASURES = {"maskgit_plus": Measure.PROBABILITY, "topk_margin": Measure.MARGIN, "entropy": Measure.NEGATIVE_ENTROPY}
THRESHOLD_ALG = "confidence_threshold"


def prepare_dream(run: RecordedRun, manifest: Manifest) -> PreparedRun:
    """`diffusion_generate` of Dream. Positions count real tokens."""
    given = Parameters(run)
    alg = given.choice("alg", "origin", [*MEASURES, "origin"])
    steps = given.positive("steps", 512)
    if alg == "origin" and steps > 1:
        raise UnsupportedRun("alg", alg, f"it draws at random what to fill in, except in a single step; known are {', '.join(MEASURES)}")
    mask = given.mask("mask_token_id", manifest)
    if len(masks := {prompt.count(mask) for prompt in run.prompt_ids}) > 1:
        why = "its rows share a schedule, and the reference overwrites tokens where one row runs out of masks before the others"
        raise UnsupportedRun("masks in prompt_ids", sorted(masks), why)
    policy = Dream(
        mask_token_id=mask,
        steps=steps,
        measure=MEASURES.get(alg, Measure.PROBABILITY),
        eps=given.number("eps", 1e-3),
        as_published=True,
    )
    return finished(given, run, policy, sampling(given))


def fast_dllm_v1_dream(cache: BlockCache) -> Callable[[RecordedRun, Manifest], PreparedRun]:
    """`generation_utils_block` of NVlabs/Fast-dLLM v1 for Dream, with either cache."""

    def prepare_fast_dllm_v1_dream(run: RecordedRun, manifest: Manifest) -> PreparedRun:
        given = Parameters(run)
        alg = given.choice("alg", "origin", [THRESHOLD_ALG, *MEASURES, "origin"])
        threshold = given.optional_number("threshold")
        given.only("dual_cache", None, cache == "dual", why=f"the sampler's name says {cache}")
        limit = given.positive("max_new_tokens")
        by_threshold = alg == THRESHOLD_ALG
        policy = FastDllmV1Dream(
            block_length=given.positive("block_length", 32),
            mask_token_id=given.mask("mask_token_id", manifest),
            steps=given.positive("steps", 512),
            threshold=(0.9 if threshold is None else threshold) if by_threshold else None,
            cache=cache,
            eps=given.number("eps", 1e-3),
            measure=Measure.PROBABILITY if by_threshold else Measure.NEGATIVE_ENTROPY,
            as_published=True,
        )
        rows = padded_rows(run, policy, limit, sampling(given), keeps_positions=False, key=by_place)
        given.finish()
        return PreparedRun(rows)

    return prepare_fast_dllm_v1_dream


def finished(given: Parameters, run: RecordedRun, policy: Dream, sampling: Sampling) -> PreparedRun:
    """The run, once all of its parameters have been read."""
    limit = given.positive("max_new_tokens")
    given.finish()
    return PreparedRun(padded_rows(run, policy, limit, sampling, keeps_positions=False))


def sampling(given: Parameters, top_k: int | None = None) -> Sampling:
    """What Dream's loops have in common; `top_k` is the default."""
    given.only("temperature", 0, why="draws of the reference cannot be repeated")
    given.only("alg_temp", None, 0, why="draws of the reference cannot be repeated")
    given.ignore("quota_per_step", "pad_token_id", "bos_token_id", "eos_token_id", "num_return_sequences", "max_length")
    top_p, top_k = given.optional_number("top_p"), given.optional_integer("top_k", top_k)
    return Sampling(top_k=top_k or 0, top_p=1.0 if top_p is None or top_p >= 1 else top_p, top_p_first=True, banned_token_ids=())


RUNS = {
    "dream": prepare_dream,
    "fast_dllm_v1_dream_prefix": fast_dllm_v1_dream("prefix"),
    "fast_dllm_v1_dream_dual": fast_dllm_v1_dream("dual"),
}
