"""Properties of the policies that no fixture shows."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from dlm_runtime.engines import Engine, FakeEngine, fake_manifest
from dlm_runtime.policies import Line, LinearSelfSpeculation, policy_for
from dlm_runtime.scheduler import LineRequest, write_line
from dlm_runtime.scheduler.together import write_together

PROMPT = tuple(range(20, 32))


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.3])
@pytest.mark.parametrize("draft_threshold", [0.0, 0.5])
def test_self_speculation_equals_ar(golden_engine: Engine, temperature: float, draft_threshold: float) -> None:
    policy = LinearSelfSpeculation(golden_engine.manifest.block_length, golden_engine.manifest.mask_token_id, draft_threshold)
    rng = random.Random(3)
    for seed in range(6):
        prompt = tuple(rng.choices(range(101, 256), k=rng.randrange(1, 30)))
        request = LineRequest(prompt, mode="ar", max_new_tokens=30, temperature=temperature, seed=seed)
        assert write_line(golden_engine, replace(request, mode="self_speculation"), policy).token_ids == (
            write_line(golden_engine, request).token_ids
        )


@pytest.mark.parametrize("wrong_every", [0, 1, 3])
def test_self_speculation_equals_ar_up_to_the_end_of_line(wrong_every: int) -> None:
    for number in range(40):
        request = LineRequest((5 + number, 9), mode="ar", max_new_tokens=40)
        ar = write_line(FakeEngine(), request)
        speculative = write_line(FakeEngine(wrong_every=wrong_every), replace(request, mode="self_speculation"))
        assert (speculative.token_ids, speculative.finish_reason) == (ar.token_ids, ar.finish_reason)


def test_perfect_drafts_take_two_passes_per_block() -> None:
    engine = FakeEngine(fake_manifest(block_length=8), script=lambda token_ids: 10 + len(token_ids) % 50, wrong_every=0)
    result = write_line(engine, LineRequest(PROMPT, mode="self_speculation", max_new_tokens=1 + 4 * 8))
    assert result.forwards == 1 + 2 * 4


def test_nothing_is_run_after_an_end_of_line() -> None:
    """The end comes as seventh token of a block of eight; what the block holds behind it is dropped."""
    manifest = fake_manifest(block_length=8)
    engine = FakeEngine(manifest, script=lambda token_ids: 2 if len(token_ids) == len(PROMPT) + 6 else 50, wrong_every=0)
    result = write_line(engine, LineRequest(PROMPT, mode="diffusion", max_new_tokens=40, threshold=0.0))
    assert (result.token_ids, result.tokens, result.finish_reason, result.forwards) == ((50,) * 6, 7, "eos", 2)
    result = write_line(engine, LineRequest(PROMPT, mode="self_speculation", max_new_tokens=40))
    assert (result.token_ids, result.finish_reason, result.forwards) == ((50,) * 6, "eos", 3)
    assert engine.shapes[-1][1] == 6, "verifying the token before the end says whether the line ends"


def test_a_seed_that_ends_the_line_gives_an_empty_line() -> None:
    engine = FakeEngine(script=lambda token_ids: 2)
    for mode in ("diffusion", "self_speculation", "ar"):
        result = write_line(engine, LineRequest(PROMPT, mode=mode))
        assert (result.token_ids, result.tokens, result.finish_reason, result.forwards) == ((), 1, "eos", 1)


def test_window_narrows_with_the_masks() -> None:
    """The head over the vocabulary is dear; widths are rounded up, for every new one costs a binding."""
    engine = FakeEngine()
    line = Line(PROMPT, 8, engine.manifest.eos_token_ids)
    write_together(engine, [(policy_for(engine.manifest, "diffusion", threshold=1.0), line)])
    windows = [window for _, _, _, window in engine.shapes[1:]]
    assert windows == sorted(windows, reverse=True)
    assert windows[0] == 8, "seven masks; windows come in few sizes"
    assert windows[-1] == 1


def test_same_seed_same_line_other_seed_other_line(golden_engine: Engine) -> None:
    request = LineRequest(PROMPT, mode="diffusion", temperature=1.0, max_new_tokens=24, seed=5)
    first = write_line(golden_engine, request).token_ids
    assert write_line(golden_engine, request).token_ids == first
    assert any(write_line(golden_engine, replace(request, seed=seed)).token_ids != first for seed in range(6, 9))


def test_banned_tokens_are_never_written(golden_engine: Engine) -> None:
    for seed in range(10):
        result = write_line(golden_engine, LineRequest(PROMPT, temperature=10.0, max_new_tokens=32, seed=seed))
        assert golden_engine.manifest.mask_token_id not in result.token_ids


def test_draft_shows_final_words_and_guesses_up_to_the_likely_end() -> None:
    line = Line((1,), 20, (2,))
    line.extend([10, 11])
    line.show([12, 2, 13, 2, 14], [True, False, True, False, False])
    assert line.draft() == ((10, 11, 12, 13), (True, True, True, True))
    line.show([12, 2, 13], [True, True, False])
    assert line.draft() == ((10, 11, 12), (True, True, True))
    line.extend([12, 2])
    assert line.draft() == ((10, 11, 12), (True,) * 3)
    assert line.text_ids == (10, 11, 12)
