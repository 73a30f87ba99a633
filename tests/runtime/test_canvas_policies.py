"""Policies over one bidirectional canvas: what they ask for, and what a served line gets that the published loops do not give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dlm_runtime.policies.capped_threshold import CappedThreshold
from dlm_runtime.policies.dllm_fast_dllm import DllmFastDllm
from dlm_runtime.policies.dllm_mdlm import DllmDream, DllmMdlm
from dlm_runtime.policies.dream import Dream
from dlm_runtime.policies.fast_dllm_v1 import FastDllmV1
from dlm_runtime.policies.fast_dllm_v1_dream import FastDllmV1Dream
from dlm_runtime.policies.hesitant import Hesitant
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.llada import Llada
from dlm_runtime.policies.passes import Outcome, Passes, Policy, Until
from dlm_runtime.policies.sampler import SamplerStep
from dlm_runtime.policies.sampling import Sampling

MASK, END = 1, 2
PROMPT = (10, 11, 12)


def asked(policy: Policy, limit: int = 10, end_at: int | None = None, per_pass: int = 0, **line: Any) -> tuple[list[Passes], Line]:
    """What a policy asks for when passes fill their window in from the left, `per_pass` tokens each or all; one may end the line."""
    written = Line(PROMPT, limit, (END,), **line)
    decoding, passes, outcome = policy.decode(written), list[Passes](), None
    try:
        directive = next(decoding)
        while True:
            assert isinstance(directive, Passes)
            passes.append(directive)
            window = range(*directive.window)
            masked = [column for column in window if written.canvas[column] == MASK]
            count = (per_pass or len(masked)) * directive.limit
            for column in masked[:count]:
                written.canvas[column] = END if column == end_at else 50 + column
            outcome = Outcome(1, np.zeros(len(window), np.int64))
            directive = decoding.send(outcome)
    except StopIteration:
        return passes, written


def windows(passes: list[Passes]) -> list[tuple[int, int]]:
    return [one.window for one in passes]


ALL: list[Policy] = [
    Llada(4, 8, MASK),
    FastDllmV1(4, MASK),
    FastDllmV1(4, MASK, cache="prefix"),
    FastDllmV1(4, MASK, cache="dual"),
    FastDllmV1Dream(4, MASK),
    FastDllmV1Dream(4, MASK, cache="dual", threshold=None, steps=12),
    Dream(MASK, 6),
    DllmMdlm(4, 8, MASK),
    DllmDream(6, MASK),
    DllmDream(6, MASK, threshold=0.7),
    DllmFastDllm(4, MASK),
    DllmFastDllm(4, MASK, factor=1.0, cache="prefix"),
]


@pytest.mark.parametrize("policy", ALL, ids=repr)
@pytest.mark.parametrize("limit", [1, 4, 10])
def test_every_line_is_filled_and_ends(policy: Policy, limit: int) -> None:
    passes, line = asked(policy, limit)
    assert line.ending == "length"
    assert line.tokens == [50 + column for column in range(3, 3 + limit)]
    assert all(one.query == (0, 3 + limit) or not one.keep for one in passes)


BLOCKWISE = [Llada(4, 8, MASK), FastDllmV1(4, MASK), FastDllmV1(4, MASK, cache="dual"), FastDllmV1Dream(4, MASK), DllmMdlm(4, 8, MASK)]


@pytest.mark.parametrize("policy", [*BLOCKWISE, DllmFastDllm(4, MASK)], ids=repr)
def test_a_served_line_ends_with_the_block_of_its_end_and_a_published_one_goes_on(policy: Any) -> None:
    passes, line = asked(policy, 12, end_at=4)
    assert (line.tokens, line.ending) == ([53, END], "eos")
    assert max(stop for _, stop in windows(passes)) == 7
    passes, line = asked(replace(policy, as_published=True), 12, end_at=4)
    assert (line.tokens, line.ending) == ([53, END], "eos")
    assert max(stop for _, stop in windows(passes)) == 15
    assert MASK not in line.canvas


def test_llada_as_published_runs_passes_that_commit_nothing() -> None:
    published, _ = asked(Llada(4, 15, MASK, as_published=True), 12)
    served, _ = asked(Llada(4, 15, MASK), 12)
    assert [(one.until, one.limit, one.rule.quotas) for one in published] == [(Until.LIMIT, 5, (1, 1, 1, 1, 0))] * 3
    assert {one.until for one in served} == {Until.CLEAN}


def test_dream_as_published_runs_passes_that_commit_nothing() -> None:
    published, _ = asked(Dream(MASK, 12, as_published=True), 8)
    served, _ = asked(Dream(MASK, 12), 8)
    assert published[0].rule.quotas == (*(0,) * 5, *(1,) * 6, 2)
    assert (served[0].rule.quotas, served[0].limit) == ((*(1,) * 6, 2), 7)


def test_guided_lines_are_guided() -> None:
    for policy in (Llada(4, 8, MASK), DllmMdlm(4, 8, MASK), Dream(MASK, 4), DllmDream(4, MASK)):
        assert all(one.guided for one in asked(policy, sampling=Sampling(guidance=0.5))[0])
        assert not any(one.guided for one in asked(policy)[0])


def test_masks_of_the_prompt_are_filled_in_too() -> None:
    line = Line((10, MASK, 12), 4, (END,))
    assert isinstance(first := next(Dream(MASK, 4).decode(line)), Passes)
    assert first.window == (1, 7)
    assert isinstance(first := next(Llada(4, 4, MASK).decode(Line((10, MASK, 12), 4, (END,)))), Passes)
    assert (first.window, sum(first.rule.quotas)) == ((1, 7), 4)


@pytest.mark.parametrize(
    ("cache", "kept", "query"),
    [("prefix", ((0, 7),), (7, 13)), ("dual", ((0, 7), (11, 13)), (7, 11))],
)
def test_what_is_cached(cache: Any, kept: object, query: object) -> None:
    passes, _ = asked(FastDllmV1(4, MASK, cache=cache), per_pass=1)
    full, cached = passes[2:4]
    assert (full.query, full.window, full.crop, full.keep, full.limit) == ((0, 13), (7, 11), 0, kept, 1)
    assert (cached.query, cached.window, cached.crop, cached.keep) == (query, (7, 11), None, ())
    assert (cached.first_step, cached.until) == (1, Until.CLEAN)


def test_the_published_dual_cache_leaves_masks_to_the_next_full_pass() -> None:
    capped = FastDllmV1(4, MASK, steps=6, cache="dual", as_published=True)
    passes, line = asked(capped, 12, per_pass=1)
    assert windows(passes)[:4] == [(3, 7), (3, 7), (5, 11), (7, 11)]
    assert [one.limit for one in passes[:4]] == [1, 1, 1, 1]
    assert MASK in line.canvas
    passes, line = asked(replace(capped, as_published=False), 12, per_pass=1)
    assert MASK not in line.canvas


def test_dllms_dual_cache_leaves_them_for_good() -> None:
    passes, line = asked(DllmFastDllm(4, MASK, steps=6, cache="dual", as_published=True), 12, per_pass=1)
    assert windows(passes)[:4] == [(3, 7), (3, 7), (7, 11), (7, 11)]
    assert line.canvas.tolist().count(MASK) == 6


def test_a_block_that_the_full_pass_filled_needs_no_other() -> None:
    assert windows(asked(FastDllmV1(4, MASK, cache="prefix"), 8)[0]) == [(3, 7), (7, 11)]


def test_the_full_pass_of_dream_gives_the_first_token_alone() -> None:
    passes, _ = asked(FastDllmV1Dream(4, MASK, steps=8, threshold=None), 8)
    assert windows(passes) == [(3, 4), (3, 7), (7, 8), (7, 11)]
    assert {one.shift for one in passes} == {1}
    assert passes[1].rule.quotas == (0, 0, 1, 2)


def test_the_published_loop_for_dream_leaves_a_block_of_one_step_masked() -> None:
    policy = FastDllmV1Dream(4, MASK, steps=2, threshold=None, as_published=True)
    passes, _ = asked(policy, 8)
    assert (passes[1].rule.quotas, passes[1].limit) == ((0, 0), 1)
    served, _ = asked(replace(policy, as_published=False), 8)
    assert served[1].rule.quotas == (0, 3)


def test_padding_of_dllms_batches_is_seen_and_not_filled_in() -> None:
    passes, line = asked(DllmFastDllm(4, MASK, padding_ids=(7, 7), as_published=True), 6)
    assert line.canvas.tolist()[-2:] == [7, 7]
    assert {one.query for one in passes} == {(0, 11)}
    assert windows(passes) == [(3, 7), (7, 9)]
    assert len(line.tokens) == 6


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Llada(0, 8, MASK), "self.block_length=0 must be at least 1"),
        (lambda: Llada(4, 0, MASK), "self.steps=0 must be at least 1"),
        (lambda: FastDllmV1(0, MASK), "self.block_length=0 must be at least 1"),
        (lambda: FastDllmV1(4, MASK, steps=0), "self.steps=0 must be at least 1"),
        (lambda: FastDllmV1Dream(4, MASK, cache="none"), "self.cache='none' must be prefix or dual"),
        (lambda: Dream(MASK, 0), "self.steps=0 must be at least 1"),
        (lambda: Dream(MASK, eps=0.0), "self.eps=0.0 must be above 0 and below 1"),
        (lambda: DllmMdlm(0, 8, MASK), "self.block_length=0 must be at least 1"),
        (lambda: DllmDream(0, MASK), "self.steps=0 must be at least 1"),
        (lambda: DllmFastDllm(4, MASK, steps=0), "self.steps=0 must be at least 1"),
        (lambda: Hesitant(()), "must be 1 to 8 token ids"),
        (lambda: Hesitant(tuple(range(9))), "must be 1 to 8 token ids"),
    ],
)
def test_numbers_that_cannot_be_used(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def sampler_step(parameters: list[list[float]], confidence: list[list[float]], quota: list[int], **more: Any) -> SamplerStep:
    """Rows of four masks that would become 51, 52, ..."""
    rows = len(confidence)
    shape = (rows, 4)
    fields: dict[str, Any] = {
        "parameters": np.array(parameters, np.float32),
        "tokens": np.full(shape, MASK, np.int64),
        "masked": np.ones(shape, np.bool_),
        "inside": np.ones(shape, np.bool_),
        "sampled": np.tile(np.arange(51, 55), (rows, 1)),
        "confidence": np.array(confidence, np.float32),
        "entropy": np.zeros(shape, np.float32),
        "quota": np.array(quota, np.int64),
        "step": np.zeros(rows, np.int64),
        "seed": np.zeros(rows, np.int64),
        "positions": np.tile(np.arange(4), (rows, 1)),
        "memory": np.zeros((rows, 4, 0), np.float32),
        "likeliest": np.tile(np.arange(51, 55), (rows, 1)),
        "logits": None,
        "previous_logits": None,
    }
    return SamplerStep(**fields | more)


def test_a_capped_threshold_leaves_what_has_to_stay() -> None:
    sure = [0.9, 0.2, 0.8, 0.7]
    step = sampler_step([[0.5], [0.5], [0.95], [0.5]], [sure, sure, sure, sure], [0, 2, 0, 3])
    tokens, done = CappedThreshold.choose(step, MASK)
    assert tokens.tolist() == [[51, MASK, 53, 54], [51, MASK, 53, MASK], [51, MASK, MASK, MASK], [51, MASK, MASK, MASK]]
    assert not done.any()


def test_a_hesitant_token_comes_last() -> None:
    logits = np.zeros((2, 4, 60), np.float32)
    logits[:, 0, 51], logits[:, 1, 52], logits[:, 2, 53], logits[:, 3, 54] = 9, 4, 3, 2
    step = sampler_step([[51.0] + [-1.0] * 7, [51.0, 52.0] + [-1.0] * 6], [[0.0] * 4] * 2, [1, 3], logits=logits)
    tokens, _ = Hesitant.choose(step, MASK)
    assert tokens.tolist() == [[MASK, 52, MASK, MASK], [51, MASK, 53, 54]]


def test_masks_of_the_prompt_do_not_hold_up_fast_dllm() -> None:
    line = Line((10, MASK, 12), 2, (END,))
    decoding = FastDllmV1(2, MASK, as_published=True).decode(line)
    directive = next(decoding)
    seen: list[tuple[tuple[int, int], int, int]] = []
    for column in (4, 3):
        assert isinstance(directive, Passes)
        seen.append((directive.window, directive.limit, directive.first_step))
        line.canvas[column] = 50
        if column == 4:
            directive = decoding.send(Outcome(1, np.zeros(4, np.int64)))
    with pytest.raises(StopIteration):
        decoding.send(Outcome(1, np.zeros(4, np.int64)))
    assert seen == [((1, 5), 1, 0), ((1, 5), 1, 1)]
    assert line.tokens == [50, 50]
    assert line.canvas.tolist()[1] == MASK
