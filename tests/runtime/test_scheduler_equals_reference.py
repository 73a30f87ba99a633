"""The scheduler against the plain loop: whatever is mixed, batched, cached or padded, every line is the one that comes about alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from dlm_runtime.engines import Engine, FakeEngine, StepBatch, StepResult
from dlm_runtime.scheduler import LineRequest, write_line


class Arrivals:
    """An engine during whose n-th step the n-th group of requests arrives: arrival times that are the same in every run."""

    def __init__(self, engine: Engine, arrive: Callable[[int], None]) -> None:
        self.engine = engine
        self.manifest = engine.manifest
        self.arrive = arrive
        self.steps = 0

    def step(self, batch: StepBatch) -> StepResult:
        self.arrive(self.steps)
        self.steps += 1
        return self.engine.step(batch)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("max_rows", "cache_bytes", "prefill_step_tokens"),
    [(64, 2**20, 512), (5, 2**20, 24), (16, 0, 512), (16, 3 * 16 * 16, 40), (1, 2**20, 512)],
)
def test_any_mixture_without_a_model(run_scheduler, random_requests, text_of, max_rows, cache_bytes, prefill_step_tokens) -> None:
    engine = FakeEngine()
    requests = random_requests(engine.manifest, 150, seed=max_rows)
    options = {"max_rows": max_rows, "cache_bytes": cache_bytes, "prefill_step_tokens": prefill_step_tokens}
    results = run_scheduler(engine, **options).write(*requests)
    for request, result in zip(requests, results, strict=True):
        assert text_of(result) == text_of(write_line(FakeEngine(), request))


@pytest.mark.parametrize("temperatures", [(0.0,), (0.0, 0.8, 1.0)])
def test_any_mixture_on_a_model(run_scheduler, random_requests, text_of, golden_engine: Engine, temperatures) -> None:
    requests = random_requests(golden_engine.manifest, 60, seed=11, temperatures=temperatures)
    expected = [text_of(write_line(golden_engine, request)) for request in requests]
    harness = run_scheduler(golden_engine, prefill_step_tokens=64)
    assert [text_of(result) for result in harness.write(*requests)] == expected
    assert harness.scheduler.stats().cache.hit_tokens > 0


def test_any_arrival_times(run_scheduler, random_requests, text_of, golden_engine: Engine) -> None:
    requests = random_requests(golden_engine.manifest, 40, seed=5, temperatures=(0.0, 1.0))
    expected = [text_of(write_line(golden_engine, request)) for request in requests]
    arrived: list[int] = []

    def arrive(step: int) -> None:
        if len(arrived) < len(requests) - 1 and step % 2 == 0:
            arrived.append(step)
            harness.submit(requests[len(arrived)])
            everybody.release()

    everybody = threading.Semaphore(0)
    harness = run_scheduler(Arrivals(golden_engine, arrive), max_rows=6)
    # The first line is longer than it takes the others to arrive, so there is a step for each of them to arrive in.
    first = harness.submit(replace(requests[0], mode="ar", max_new_tokens=100, temperature=0.0))
    for _ in requests[1:]:
        assert everybody.acquire(timeout=30)
    assert first.result().tokens == 100
    assert [text_of(inbox.result()) for inbox in harness.inboxes[1:]] == expected[1:]


@pytest.mark.parametrize("mode", ["diffusion", "self_speculation", "ar"])
def test_alone_and_among_63_others(run_scheduler, random_requests, text_of, golden_engine: Engine, mode) -> None:
    request = LineRequest(tuple(range(110, 150)), mode=mode, max_new_tokens=30, temperature=0.9, seed=77)
    harness = run_scheduler(golden_engine)
    (alone,) = harness.write(request)
    others = random_requests(golden_engine.manifest, 63, seed=2, temperatures=(0.0, 1.0))
    crowd = harness.write(*others[:31], request, *others[31:])
    assert text_of(crowd[31]) == text_of(alone)
    assert crowd[31].cached_tokens == 32, "the second time the prompt comes from the cache, but for its last block"


def test_cached_equals_uncached(run_scheduler, text_of, golden_engine: Engine) -> None:
    card = tuple(range(101, 171))
    requests = [
        LineRequest((*card, 180 + number, 7), mode=mode, max_new_tokens=20)
        for number in range(8)
        for mode in ("diffusion", "self_speculation", "ar")
    ]
    plain = run_scheduler(golden_engine, cache_bytes=0)
    cached = run_scheduler(golden_engine)
    assert [text_of(r) for r in cached.write(*requests)] == [text_of(r) for r in plain.write(*requests)]
    stats = cached.scheduler.stats().cache
    assert stats.hit_tokens == (len(requests) - 1) * 64, "the card is run once, though all arrive together"
    assert plain.scheduler.stats().cache.hit_tokens == 0


def test_prompts_that_begin_alike_are_run_once(run_scheduler, gate) -> None:
    """Also where they arrive together: the second waits one step for the first."""
    engine = FakeEngine(before_step=gate)
    harness = run_scheduler(engine)
    card = tuple(range(3, 83))
    harness.submit(LineRequest((3,), max_new_tokens=1))
    assert gate.reached.wait(30)
    crowd = [harness.submit(LineRequest((*card, 84 + number), max_new_tokens=4)) for number in range(6)]
    gate.opened.set()
    results = [inbox.result() for inbox in crowd]
    assert [result.cached_tokens for result in results] == [0] + [80] * 5
    assert sorted(result.prefill_tokens for result in results) == [1] * 5 + [81]


def test_contexts_of_very_different_length_step_apart(run_scheduler, text_of) -> None:
    """So that a long past does not become everybody's padding."""
    engine = FakeEngine()
    short = [LineRequest((5 + number,) * 20, max_new_tokens=30, threshold=1.0) for number in range(4)]
    long = [replace(request, prompt_ids=request.prompt_ids * 60) for request in short]
    results = run_scheduler(engine).write(*short, *long)
    for request, result in zip([*short, *long], results, strict=True):
        assert text_of(result) == text_of(write_line(FakeEngine(), request))
    pasts = {past for _, length, past, _ in engine.shapes if 1 < length <= engine.manifest.block_length}
    assert all(past <= 96 or past >= 1200 for past in pasts)


def test_rows_move_on_when_their_context_outgrows_the_arena(run_scheduler, text_of) -> None:
    engine = FakeEngine(script=lambda token_ids: 10 + sum(token_ids[-5:]) % 80)
    requests = [
        LineRequest(tuple(range(5, 5 + number)), mode=mode, max_new_tokens=600) for number in (3, 60) for mode in ("ar", "diffusion")
    ]
    for request, result in zip(requests, run_scheduler(engine).write(*requests), strict=True):
        assert text_of(result) == text_of(write_line(FakeEngine(script=engine.script), request))
