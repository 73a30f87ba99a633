"""LLaDA's loop, and Fast-dLLM v1's for LLaDA."""

from __future__ import annotations

from collections.abc import Callable

from dlm_runtime.bundle import Manifest
from dlm_runtime.policies.fast_dllm_v1 import BlockCache, FastDllmV1
from dlm_runtime.policies.hesitant import Hesitant
from dlm_runtime.policies.llada import Llada
from dlm_runtime.policies.passes import Policy
from dlm_runtime.policies.sampling import Sampling

from .parameters import Parameters, UnsupportedRun
from .prepared import PreparedRun, RecordedRun, by_place
from .rows import padded_rows

PUBLISHED_EOS, PUBLISHED_EOT = 126081, 126348


def prepare_llada(run: RecordedRun, manifest: Manifest) -> PreparedRun:
    """`generate` of ML-GSAI/LLaDA. Padding keeps its positions."""
    given = Parameters(run)
    given.only("remasking", "low_confidence", why="the order of `random` cannot be recorded")
    given.only("temperature", 0, why="draws of the reference cannot be repeated")
    banned = special_ids(given, manifest, "eos_id") if given.get("logits_eos_inf", False) else ()
    unsure = special_ids(given, manifest, "eos_id", "eot_id") if given.get("confidence_eos_eot_inf", False) else ()
    given.ignore("eos_id", "eot_id")
    guidance = given.number("cfg_scale", 0.0)
    if unsure and guidance:
        raise UnsupportedRun("confidence_eos_eot_inf", True, "it cannot be combined with cfg_scale")
    policy = Llada(
        block_length=given.positive("block_length", 128),
        steps=given.positive("steps", 128),
        mask_token_id=given.mask("mask_id", manifest),
        sampler=Hesitant(unsure) if unsure else None,
        as_published=True,
    )
    return finished(given, run, policy, given.positive("gen_length", 128), Sampling(guidance=guidance, banned_token_ids=banned))


def fast_dllm_v1(cache: BlockCache) -> Callable[[RecordedRun, Manifest], PreparedRun]:
    """`generate`, `generate_with_prefix_cache` or `generate_with_dual_cache` of NVlabs/Fast-dLLM v1 for LLaDA."""

    def prepare_fast_dllm_v1(run: RecordedRun, manifest: Manifest) -> PreparedRun:
        given = Parameters(run)
        given.only("remasking", "low_confidence", why="the order of `random` cannot be recorded")
        given.only("temperature", 0, why="draws of the reference cannot be repeated")
        policy = FastDllmV1(
            block_length=given.positive("block_length", 128),
            mask_token_id=given.mask("mask_id", manifest),
            steps=given.positive("steps", 128),
            threshold=given.optional_number("threshold"),
            factor=given.optional_number("factor"),
            cache=cache,
            as_published=True,
        )
        return finished(given, run, policy, given.positive("gen_length", 128), Sampling(banned_token_ids=()))

    return prepare_fast_dllm_v1


def finished(given: Parameters, run: RecordedRun, policy: Policy, limit: int, sampling: Sampling) -> PreparedRun:
    """The run, once all of its parameters have been read."""
    given.finish()
    return PreparedRun(padded_rows(run, policy, limit, sampling, keeps_positions=True, key=by_place))


def special_ids(given: Parameters, manifest: Manifest, *names: str) -> tuple[int, ...]:
    """Ids that the published loop has as constants, unless the run names others."""
    published = {"eos_id": PUBLISHED_EOS, "eot_id": PUBLISHED_EOT}
    ids = tuple(given.integer(name, published[name]) for name in names)
    for name, token_id in zip(names, ids, strict=True):
        if token_id >= manifest.vocab_size:
            raise UnsupportedRun(name, token_id, f"the bundle has {manifest.vocab_size} tokens; name the id among the run's parameters")
    return ids


RUNS = {
    "llada": prepare_llada,
    "fast_dllm_v1_none": fast_dllm_v1("none"),
    "fast_dllm_v1_prefix": fast_dllm_v1("prefix"),
    "fast_dllm_v1_dual": fast_dllm_v1("dual"),
}
