"""Block loops as lines are served with them: the text is the published loop's, and no line depends on its company."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from dlm_runtime.bundle import Manifest
from dlm_runtime.engines import Engine
from dlm_runtime.policies.autoregressive import Autoregressive
from dlm_runtime.policies.bd3lm import BlockSampler
from dlm_runtime.policies.choose import LOOPS
from dlm_runtime.policies.diffusion import ThresholdDiffusion
from dlm_runtime.policies.fast_dllm_v2 import SubBlockDiffusion
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.llada2 import LLaDA2, LLaDA21
from dlm_runtime.policies.passes import Policy
from dlm_runtime.policies.plain import run_line
from dlm_runtime.policies.s2d2 import SelfSpeculation
from dlm_runtime.policies.sampling import Sampling
from dlm_runtime.policies.sdar import BlockDiffusion
from dlm_runtime.policies.self_speculation import LinearSelfSpeculation
from dlm_runtime.policies.thinking import ThinkingBudget
from dlm_runtime.policies.when_to_verify import ESTIMATORS, RULES, Verification
from dlm_runtime.scheduler.together import write_together
from random_lines import lines_of

BLOCK_MODELS = ["sdar", "llada2", "llada21", "fast_dllm_v2", "nemotron_labs_diffusion", "diffusion_gemma"]
THINKING = ThinkingBudget(11, 7)


def written(engine: Engine, policy: Policy, line: Line) -> int:
    return run_line(engine, policy, line).forwards


def published_pairs(manifest: Manifest) -> dict[str, list[Policy]]:
    """Policies of a model that have a published form."""
    length, mask = manifest.block_length, manifest.mask_token_id or 0
    return {
        "sdar": [
            BlockDiffusion(length, mask, length, "low_confidence_dynamic", 0.5),
            BlockDiffusion(length, mask, 2, "low_confidence_static"),
            BlockDiffusion(length, mask, 3, "sequential"),
            SelfSpeculation(length, mask, length, threshold=0.5, fixed_draw=0.5),
        ],
        "llada2": [LLaDA2(length, mask, 0.5, 8), LLaDA21(length, mask, 0.6, 0.6, 3)],
        "fast_dllm_v2": [SubBlockDiffusion(length, mask, 4, 0.5), SubBlockDiffusion(length, mask, 2, 0.4, block_cache=True)],
        "a2d_qwen3": [BlockSampler(length, mask, 12), BlockSampler(length, mask, 9, shift=1)],
    }[manifest.family]


@pytest.mark.parametrize("name", ["sdar", "llada2", "fast_dllm_v2", "a2d_qwen3"])
def test_a_served_line_is_the_published_one_up_to_its_end(engines: Callable[[str], Engine], name: str) -> None:
    engine = engines(name)
    for number, policy in enumerate(published_pairs(engine.manifest)):
        for served, published in zip(*(lines_of(engine.manifest, 8, number, ends=6, most=30) for _ in range(2)), strict=True):
            served.limit = published.limit = max(served.limit, 8)  # LLaDA2.0 hurries where there is less
            published.limit += 40 if name == "fast_dllm_v2" else 0  # whose loop writes fewer tokens than it may
            most = written(engine, replace(policy, as_published=True), published)
            took = written(engine, policy, served)
            assert served.tokens == published.tokens[: len(served.tokens)]
            assert served.ending == ("eos" if served.tokens[-1] in served.eos_token_ids else "length")
            assert took <= most + (name == "llada2")  # which runs a prompt ahead, for the cache's sake


@pytest.mark.parametrize("name", BLOCK_MODELS)
def test_no_line_depends_on_its_company(engines: Callable[[str], Engine], name: str) -> None:
    engine = engines(name)
    policies = [loop.make(engine.manifest, 0.5) for loop in LOOPS if loop.fits(engine.manifest)]
    alone = lines_of(engine.manifest, 18, 5, (0.0, 0.8), most=30)
    mixed = [(policies[number % len(policies)], line) for number, line in enumerate(lines_of(engine.manifest, 18, 5, (0.0, 0.8), most=30))]
    together = write_together(engine, mixed)
    for line, (policy, other), result in zip(alone, mixed, together, strict=True):
        assert (written(engine, policy, line), line.tokens, line.ending) == (result.forwards, other.tokens, other.ending)


def test_thoughts_end_when_their_budget_is_spent(engines: Callable[[str], Engine]) -> None:
    engine = engines("nemotron_labs_diffusion")
    length, mask = engine.manifest.block_length, engine.manifest.mask_token_id or 0
    for line in lines_of(engine.manifest, 6, 2, most=30):
        line.limit, line.eos_token_ids = 24, frozenset()
        written(engine, ThresholdDiffusion(length, mask, 0.5, thinking=THINKING), line)
        assert 7 in line.tokens[:12]
    for line in lines_of(engine.manifest, 6, 2, most=30):
        line.limit, line.eos_token_ids = 24, frozenset()
        written(engine, Autoregressive(THINKING), line)
        assert 7 in line.tokens[:12]


def test_a_budget_that_is_never_spent_changes_nothing(engines: Callable[[str], Engine]) -> None:
    engine = engines("nemotron_labs_diffusion")
    length, mask = engine.manifest.block_length, engine.manifest.mask_token_id or 0
    for draft_threshold in (0.0, 0.5):
        free = LinearSelfSpeculation(length, mask, draft_threshold, as_published=True)
        bound = replace(free, thinking=ThinkingBudget(1000, 7))
        first, second = (lines_of(engine.manifest, 6, 4, most=30) for _ in range(2))
        assert [written(engine, free, line) for line in first] == [written(engine, bound, line) for line in second]
        assert [line.tokens for line in first] == [line.tokens for line in second]


@pytest.mark.parametrize("rule", RULES)
def test_draws_of_self_speculation_come_from_the_seed(engines: Callable[[str], Engine], rule: Any) -> None:
    engine = engines("sdar")
    policy = SelfSpeculation(4, engine.manifest.mask_token_id or 0, 4, verification=Verification(rule, score_threshold=0.5))
    texts = []
    for seed in (1, 1, 2):
        line = Line((5, 9, 30), 24, (), Sampling(1.0, seed))
        written(engine, policy, line)
        texts.append(line.tokens)
    assert texts[0] == texts[1] != texts[2]
    assert not any(engine.manifest.mask_token_id in text for text in texts)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimate_writes_whole_lines(engines: Callable[[str], Engine], estimator: Any) -> None:
    engine = engines("sdar")
    numbers = Verification("score_hysteresis", estimator=estimator, score_type="difference_static", penalty_coef=0.5)
    line = Line((5, 9, 30), 21, ())
    written(engine, SelfSpeculation(8, engine.manifest.mask_token_id or 0, 8, verification=numbers), line)
    assert len(line.tokens) == 21


def test_random_canvases_come_from_the_seed(engines: Callable[[str], Engine]) -> None:
    engine = engines("diffusion_gemma")
    policy = next(loop for loop in LOOPS if loop.fits(engine.manifest)).make(engine.manifest, 0.9)
    texts = []
    for seed in (1, 1, 2):
        line = Line((5, 9, 30), 12, (), Sampling(1.0, seed))
        written(engine, policy, line)
        texts.append(line.tokens)
    assert texts[0] == texts[1] != texts[2]


WRONG: list[tuple[type, dict[str, Any], str]] = [
    (BlockDiffusion, {"denoising_steps": 4, "strategy": "entropy_bounded"}, "entropy_bounded' is not one of low_confidence_dynamic, "),
    (BlockDiffusion, {"denoising_steps": 0}, "denoising_steps=0 must be at least 1"),
    (BlockDiffusion, {"denoising_steps": 4, "confidence_temperature": 0.0}, "confidence_temperature=0.0 must be above 0"),
    (SelfSpeculation, {"denoising_steps": 4, "fixed_draw": 1.0}, "fixed_draw=1.0 must be at least 0 and below 1"),
    (LLaDA2, {"steps": 0}, "steps=0 must be at least 1"),
    (LLaDA2, {"minimal_topk": 0}, "minimal_topk=0 must be at least 1"),
    (LLaDA21, {"num_to_transfer": 0}, "num_to_transfer=0 must be at least 1"),
    (LLaDA21, {"max_post_steps": -1}, "max_post_steps=-1 must be at least 0"),
    (SubBlockDiffusion, {"sub_block_length": 3}, "sub_block_length=3 must divide"),
    (BlockSampler, {"steps": 0}, "steps=0 must be at least 1"),
    (BlockSampler, {"shift": 2}, "shift=2 must be 0 or 1"),
    (ThresholdDiffusion, {"steps_per_block": 0}, "steps_per_block=0 must be at least 1"),
]


@pytest.mark.parametrize(("policy", "numbers", "said"), WRONG)
def test_numbers_that_no_loop_can_use(policy: type, numbers: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        policy(8, 1, **numbers)


def test_a_budget_needs_the_token_that_ends_a_thought() -> None:
    with pytest.raises(ValueError, match=r"tokens=3 and self.end_token_id=None need each other"):
        ThinkingBudget(3)
    with pytest.raises(ValueError, match="tokens=-1 must be at least 0"):
        ThinkingBudget(-1, 7)


def test_thresholds_of_hysteresis_lie_apart() -> None:
    with pytest.raises(ValueError, match=r"hysteresis_on=0.0 must be above self.hysteresis_off=0.0"):
        Verification("score_hysteresis", hysteresis_off=0.0)


def test_a_limit_below_minimal_topk_is_refused(engines: Callable[[str], Engine]) -> None:
    engine = engines("llada2")
    with pytest.raises(ValueError, match=r"limit=3 must be at least self.minimal_topk=4"):
        written(engine, LLaDA2(8, engine.manifest.mask_token_id or 0, minimal_topk=4, as_published=True), Line((5,), 3, ()))
