"""The loops of dllm (ZHZisZZ/dllm) over one canvas: MDLM's, Dream's, and its forms of Fast-dLLM v1."""

from __future__ import annotations

from dataclasses import replace

from dlm_runtime.bundle import Manifest
from dlm_runtime.policies.dllm_fast_dllm import DllmFastDllm
from dlm_runtime.policies.dllm_mdlm import DllmDream, DllmMdlm
from dlm_runtime.policies.fast_dllm_v1_dream import FastDllmV1Dream
from dlm_runtime.policies.hesitant import Hesitant
from dlm_runtime.policies.passes import Measure, Policy
from dlm_runtime.policies.quotas import SCHEDULES
from dlm_runtime.policies.sampling import Sampling

from .dream_runs import MEASURES, THRESHOLD_ALG, sampling
from .parameters import Parameters, UnsupportedRun
from .prepared import PreparedRun, RecordedRun, by_place
from .rows import PolicyFor, padded_rows, uneven_rows


def prepare_mdlm(run: RecordedRun, manifest: Manifest) -> PreparedRun:
    """`MDLMSampler.sample`."""
    given = Parameters(run)
    lengths, limit, sampled = common(given, run)
    unsure = given.ids("begin_suppress_tokens", manifest.vocab_size)
    guidance = given.number("cfg_scale", 0.0)
    suppressed = given.ids("suppress_tokens", manifest.vocab_size)
    if unsure and guidance:
        raise UnsupportedRun("begin_suppress_tokens", unsure, "they cannot be combined with cfg_scale")
    policy = DllmMdlm(
        block_length=given.positive("block_size", 128),
        steps=given.positive("steps", 128),
        mask_token_id=given.mask("mask_id", manifest),
        shift=int(bool(given.get("right_shift_logits", False))),
        schedule=given.choice("scheduler", "linear", SCHEDULES),
        sampler=Hesitant(unsure + suppressed) if unsure else None,
        as_published=True,
    )
    sampled = Sampling(guidance=guidance, guidance_keeps=given.ids("cfg_keep_tokens"), banned_token_ids=suppressed)
    return uneven(given, run, lambda padding: policy, lengths, limit, sampled)


def prepare_fast_dllm(run: RecordedRun, manifest: Manifest) -> PreparedRun:
    """`FastdLLMLLaDASampler.sample`, whose cfg_scale does nothing; the sampler of the same kind for Dream where the run has an `alg`."""
    if "alg" in run.params:
        return prepare_fast_dllm_dream(run, manifest)
    given = Parameters(run)
    lengths, limit, _ = common(given, run)
    given.ignore("cfg_scale", "cfg_keep_tokens")
    policy = DllmFastDllm(
        block_length=given.positive("block_size", 128),
        mask_token_id=given.mask("mask_id", manifest),
        steps=given.positive("steps", 128),
        schedule=given.choice("scheduler", "linear", SCHEDULES),
        threshold=given.optional_number("threshold"),
        factor=given.optional_number("factor"),
        cache=given.choice("use_cache", None, [None, "none", "prefix", "dual"]) or "none",
        shift=int(bool(given.get("right_shift_logits", False))),
        as_published=True,
    )
    banned = given.ids("suppress_tokens", manifest.vocab_size) + given.ids("begin_suppress_tokens", manifest.vocab_size)
    return uneven(given, run, lambda padding: replace(policy, padding_ids=padding), lengths, limit, Sampling(banned_token_ids=banned))


def prepare_dream(run: RecordedRun, manifest: Manifest) -> PreparedRun:
    """`DreamSampler.sample`."""
    given = Parameters(run)
    policy = DllmDream(
        steps=given.positive("steps", 512),
        mask_token_id=given.mask(mask_name(given), manifest),
        schedule=given.choice("scheduler", "linear", SCHEDULES),
        measure=MEASURES[given.choice("alg", "origin", MEASURES)],
        shift=int(bool(given.get("right_shift_logits", True))),
    )
    return left_padded(given, run, policy)


def prepare_fast_dllm_dream(run: RecordedRun, manifest: Manifest) -> PreparedRun:
    """`FastdLLMDreamSampler.sample`."""
    given = Parameters(run)
    cache = given.choice("use_cache", None, [None, "none", "prefix", "dual"]) or "none"
    alg = given.choice("alg", "origin", [THRESHOLD_ALG, *MEASURES])
    threshold = given.optional_number("threshold")
    if alg == THRESHOLD_ALG and threshold is None:
        raise UnsupportedRun("threshold", None, f"alg={THRESHOLD_ALG} needs one")
    threshold = threshold if alg == THRESHOLD_ALG else None
    measure = MEASURES.get(alg, Measure.PROBABILITY)
    steps, mask = given.positive("steps", 512), given.mask(mask_name(given), manifest)
    block_length, eps = given.optional_integer("block_size", 32), given.number("eps", 1e-3)
    shifts = bool(given.get("right_shift_logits", True))
    schedule = given.choice("scheduler", "linear", SCHEDULES)
    if cache == "none":
        return left_padded(given, run, DllmDream(steps, mask, schedule, measure, shift=int(shifts), threshold=threshold))
    policy = FastDllmV1Dream(
        block_length=block_length or given.positive("max_new_tokens", 20),
        mask_token_id=mask,
        steps=steps,
        threshold=threshold,
        cache=cache,
        eps=eps,
        measure=measure,
        shift=int(shifts),
        as_published=True,
    )
    return left_padded(given, run, policy)


def common(given: Parameters, run: RecordedRun) -> tuple[list[int], int, Sampling]:
    """Prompt lengths and new tokens, once everything random has been refused."""
    given.only("remasking", "low_confidence", why="the order of `random` cannot be recorded")
    given.only("temperature", 0, why="draws of the reference cannot be repeated")
    given.only("stochastic_transfer", False, why="draws of the reference cannot be repeated")
    given.ignore("eos_id", "pad_id", "bos_id", "return_dict")
    lengths = given.prompt_lengths()
    return lengths, new_tokens(given, max(lengths)), Sampling(banned_token_ids=())


def new_tokens(given: Parameters, longest: int, default: int = 128) -> int:
    """What `max_new_tokens` says, or `max_length` where that is null."""
    if given.get("max_new_tokens", default):
        given.ignore("max_length")
        return given.positive("max_new_tokens", default)
    return given.positive("max_length") - longest


def uneven(given: Parameters, run: RecordedRun, policy: PolicyFor, lengths: list[int], limit: int, sampled: Sampling) -> PreparedRun:
    """A run whose shorter rows are padded on the right."""
    eos_token_id = given.integer("eos_id", 0)
    given.finish()
    return PreparedRun(uneven_rows(run, lengths, policy, limit, sampled, eos_token_id, by_place))


def left_padded(given: Parameters, run: RecordedRun, policy: Policy) -> PreparedRun:
    """A run of one of the Dream samplers, whose shorter rows are padded on the left; positions count real tokens."""
    given.only("stochastic_transfer", False, why="draws of the reference cannot be repeated")
    given.ignore("mask_id", "pad_id", "bos_id", "return_dict")
    eos_token_id = given.integer("eos_id", given.integer("eos_token_id", 0))
    if given.get("prompt_lengths"):
        run = padded_on_the_left(run, given.prompt_lengths(), eos_token_id)
    limit = new_tokens(given, max(len(prompt) for prompt in run.prompt_ids), default=20)
    guidance = given.number("cfg_scale", 0.0)
    sampled = replace(sampling(given, top_k=50), guidance=guidance)
    given.finish()
    return PreparedRun(padded_rows(run, policy, limit, sampled, keeps_positions=False, key=by_place))


def padded_on_the_left(run: RecordedRun, lengths: list[int], eos_token_id: int) -> RecordedRun:
    """A run whose prompts were cut to `lengths`, as these samplers lay it out."""
    prompts = [prompt[:length] for prompt, length in zip(run.prompt_ids, lengths, strict=True)]
    pads = [max(lengths) - length for length in lengths]
    rows = [[eos_token_id] * count + prompt for count, prompt in zip(pads, prompts, strict=True)]
    return replace(run, prompt_ids=rows, attention_mask=[[0] * count + [1] * (max(lengths) - count) for count in pads])


def mask_name(given: Parameters) -> str:
    """What the run calls its mask token."""
    return "mask_token_id" if "mask_token_id" in given.values else "mask_id"


RUNS = {
    "dllm_mdlm": prepare_mdlm,
    "dllm_fast_dllm": prepare_fast_dllm,
    "dllm_dream": prepare_dream,
    "dllm_fast_dllm_dream": prepare_fast_dllm_dream,
}
