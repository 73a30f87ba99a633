"""LLaDA2.0, LLaDA2.1 and Fast-dLLM v2: block diffusion with caches of its own kind."""

from __future__ import annotations

from dlm_runtime.bundle import Manifest
from dlm_runtime.policies.fast_dllm_v2 import SubBlockDiffusion
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.llada2 import LLaDA2, LLaDA21
from dlm_runtime.policies.sampling import Sampling

from .coupled import WholePasses, by_kind, slowest_kinds, whole_calls
from .parameters import Parameters, UnsupportedRun
from .prepared import Ids, PreparedRow, PreparedRun, RecordedRun

EXACT = Sampling(banned_token_ids=())
LLADA2_EOS, FAST_DLLM_STOP = 156892, 151645
FAST_DLLM_MASK_BLOCK = 32  # its denoising calls see blocks of that size, whatever the loop's


def prepare_llada2(run: RecordedRun, manifest: Manifest) -> PreparedRun:
    """`LLaDA2MoeModelLM.generate` of LLaDA2.0."""
    given = Parameters(run)
    policy = LLaDA2(
        given.positive("block_length", 32),
        given.mask("mask_id", manifest),
        threshold=given.number("threshold", 0.95),
        steps=given.positive("steps", 32),
        minimal_topk=given.positive("minimal_topk", 1),
        eos_early_stop=bool(given.get("eos_early_stop", False)),
        as_published=True,
    )
    return llada2_run(given, run, policy)


def prepare_llada21(run: RecordedRun, manifest: Manifest) -> PreparedRun:
    """`LLaDA2MoeModelLM.generate` of LLaDA2.1, which takes `steps` and `minimal_topk` and does nothing with them."""
    given = Parameters(run)
    policy = LLaDA21(
        given.positive("block_length", 32),
        given.mask("mask_id", manifest),
        threshold=given.number("threshold", 0.95),
        editing_threshold=given.number("editing_threshold", 0.9),
        max_post_steps=given.integer("max_post_steps", 16),
        num_to_transfer=given.positive("num_to_transfer", 1),
        eos_early_stop=bool(given.get("eos_early_stop", False)),
        as_published=True,
    )
    given.ignore("steps", "minimal_topk")
    return llada2_run(given, run, policy)


def llada2_run(given: Parameters, run: RecordedRun, policy: LLaDA2 | LLaDA21) -> PreparedRun:
    """What is returned are the new tokens, up to the first end of line. At temperature 0 nothing is filtered."""
    given.only("temperature", 0, why="draws of the reference cannot be repeated")
    given.ignore("top_k", "top_p")
    limit, eos = given.positive("gen_length", 2048), given.optional_integer("eos_id", LLADA2_EOS)
    given.finish()
    if policy.eos_early_stop and isinstance(policy, LLaDA2) and eos in run.prompt_ids[0]:
        raise UnsupportedRun("eos_early_stop", True, "the published loop then returns nothing for a prompt with an end of line")
    line = Line(one_prompt(run), limit, () if eos is None else (eos,), EXACT)
    return PreparedRun([PreparedRow(policy, line, lambda line: line.tokens)])


def prepare_fast_dllm_v2(run: RecordedRun, manifest: Manifest) -> PreparedRun:
    """`Fast_dLLM_QwenForCausalLM.generate`. At temperature 0 nothing is filtered."""
    given = Parameters(run)
    given.only("temperature", 0, why="draws of the reference cannot be repeated")
    given.ignore("top_p")
    length = given.positive("block_size", 32)
    if FAST_DLLM_MASK_BLOCK % length:
        raise UnsupportedRun("block_size", length, f"the published loop needs a divisor of {FAST_DLLM_MASK_BLOCK}")
    policy = SubBlockDiffusion(
        length,
        given.mask("mask_id", manifest),
        given.positive("small_block_size", 8),
        threshold=given.number("threshold", 1.0),
        block_cache=bool(given.get("use_block_cache", False)),
        as_published=True,
    )
    longest = len(run.prompt_ids[0])
    limit = given.positive("max_new_tokens") if given.get("max_new_tokens") is not None else given.positive("max_length") - longest
    stop = given.integer("stop_token", FAST_DLLM_STOP)
    given.finish()
    if longest == length:
        raise UnsupportedRun("block_size", length, "the published loop ignores a prompt of just that length")
    alone = len(run.prompt_ids) == 1
    if not alone and any(stop in row[longest:] for row in run.output_ids):
        raise UnsupportedRun("stop_token", stop, "in a batch the published loop looks at the first row's stop token alone")
    whole = whole_calls(run, length, policy.sub_block_length, policy.mask_token_id) if policy.block_cache and not alone else None

    def output(line: Line) -> Ids:
        new = line.canvas[longest:].tolist()
        return [*line.prompt_ids, *(new[: new.index(stop) + 1] if stop in new else new)]

    used = policy if whole is None else WholePasses(policy, whole, policy.mask_token_id)
    rows = [PreparedRow(used, Line(prompt, limit, (stop,), EXACT), output, by_kind) for prompt in run.prompt_ids]
    return PreparedRun(rows, slowest_kinds)


def one_prompt(run: RecordedRun) -> Ids:
    """The prompt of a loop that writes one line at a time."""
    if len(run.prompt_ids) != 1:
        raise UnsupportedRun("prompt_ids", f"{len(run.prompt_ids)} rows", "the published loop writes one line")
    return run.prompt_ids[0]


RUNS = {"llada2": prepare_llada2, "llada21": prepare_llada21, "fast_dllm_v2": prepare_fast_dllm_v2}
