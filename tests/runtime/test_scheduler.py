"""Coming and going: queue, order, cancellation, faults, drafts, shutdown."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from dataclasses import replace

import pytest
from dlm_runtime.engines import FakeEngine, StepBatch, StepResult, fake_manifest
from dlm_runtime.errors import EngineError, PromptTooLong, QueueFull, RequestError, SchedulerClosed
from dlm_runtime.scheduler import Accepted, Draft, Failed, LineRequest, Scheduler, write_line
from dlm_runtime.scheduler.arena import ContextArena

PROMPT = tuple(range(5, 25))
PATIENCE_S = 30.0


def held(run_scheduler, gate, **options):
    """A scheduler whose engine stands still in the first step of a first line."""
    harness = run_scheduler(FakeEngine(before_step=gate), **options)
    harness.submit(LineRequest((3, 4), max_new_tokens=3))
    assert gate.reached.wait(PATIENCE_S)
    return harness


def test_events_come_in_order(run_scheduler) -> None:
    inbox = run_scheduler(FakeEngine()).submit(LineRequest(PROMPT, threshold=1.0, drafts=True))
    result = inbox.result()
    assert inbox.events[0] == Accepted(0)
    drafts = [event for event in inbox.events if isinstance(event, Draft)]
    assert len(drafts) >= 3
    assert [type(event) for event in inbox.events[1:-1]] == [Draft] * len(drafts)
    for draft in drafts:
        assert len(draft.token_ids) == len(draft.frozen)
        final = [token_id for token_id, frozen in zip(draft.token_ids, draft.frozen, strict=True) if frozen]
        assert len(final) <= len(result.token_ids)
    assert result.total_ms >= result.prefill_ms >= 0
    assert (result.prefill_tokens, result.cached_tokens) == (len(PROMPT), 0)


@pytest.mark.parametrize("mode", ["diffusion", "self_speculation", "ar"])
def test_frozen_tokens_never_change(run_scheduler, mode) -> None:
    inbox = run_scheduler(FakeEngine()).submit(LineRequest(PROMPT, mode=mode, threshold=0.9, drafts=True, max_new_tokens=30))
    text = inbox.result().token_ids
    drafts = [event for event in inbox.events if isinstance(event, Draft)]
    assert drafts
    for draft in drafts:
        whole = all(draft.frozen)
        frozen_prefix = draft.frozen.index(False) if not whole else len(draft.frozen)
        assert draft.token_ids[:frozen_prefix] == text[:frozen_prefix]


def test_order_is_deadline_then_priority_then_arrival(run_scheduler, gate) -> None:
    harness = held(run_scheduler, gate, max_rows=1)
    urgencies: list[tuple[int, int | None]] = [(0, None), (0, None), (5, None), (0, 9000), (0, 50)]  # priority, budget_ms
    crowd = [
        harness.submit(LineRequest(PROMPT, max_new_tokens=2, priority=priority, budget_ms=budget_ms)) for priority, budget_ms in urgencies
    ]
    gate.opened.set()
    for inbox in crowd:
        inbox.result()
    assert harness.ended == [0, 5, 4, 3, 1, 2]
    assert [inbox.events[0] for inbox in crowd] == [Accepted(0), Accepted(1), Accepted(0), Accepted(0), Accepted(0)]


def test_full_queue_answers_at_once(run_scheduler, gate) -> None:
    harness = held(run_scheduler, gate, max_rows=2, max_waiting=3)
    waiting = [harness.submit(LineRequest(PROMPT)) for _ in range(4)]
    with pytest.raises(QueueFull) as caught:
        harness.scheduler.submit(LineRequest(PROMPT), lambda event: None)
    assert caught.value.retry_after_ms > 0
    assert harness.scheduler.stats().waiting == 4
    gate.opened.set()
    for inbox in waiting:
        inbox.result()
    harness.submit(LineRequest(PROMPT)).result()


def test_cancelled_while_waiting_and_while_running(run_scheduler, gate) -> None:
    harness = held(run_scheduler, gate, max_rows=1)
    waiting = harness.submit(LineRequest(PROMPT))
    for ticket in harness.tickets:
        ticket.cancel()
    gate.opened.set()
    running = harness.inboxes[0].result()
    assert (running.finish_reason, running.forwards, running.tokens) == ("cancelled", 1, 0)
    dropped = waiting.result()
    assert (dropped.finish_reason, dropped.forwards, dropped.token_ids) == ("cancelled", 0, ())
    assert harness.scheduler.stats().cancelled == 2


@pytest.mark.parametrize("mode", ["self_speculation", "ar"])
def test_cancelled_in_the_middle_keeps_what_was_written(run_scheduler, mode) -> None:
    def cancel_later(batch: StepBatch) -> None:
        if engine.steps == 9:
            harness.tickets[0].cancel()

    engine = FakeEngine(script=lambda ids: 10 + len(ids) % 80, before_step=cancel_later)
    harness = run_scheduler(engine)
    request = LineRequest(PROMPT, mode=mode, max_new_tokens=200)
    result = harness.submit(request).result()
    whole = write_line(FakeEngine(script=engine.script), request)
    assert (result.finish_reason, result.forwards) == ("cancelled", 10)
    assert result.tokens == len(result.token_ids) >= 10
    assert result.token_ids == whole.token_ids[: result.tokens]


def test_a_loop_by_name(run_scheduler, text_of) -> None:
    request = LineRequest(PROMPT, max_new_tokens=20, sampler="nemotron_diffusion", temperature=0.5, top_k=3, top_p=0.9)
    (result,) = run_scheduler(FakeEngine()).write(request)
    assert text_of(result) == text_of(write_line(FakeEngine(), replace(request, sampler=None)))
    with pytest.raises(RequestError, match="sampler='llada'"):
        Scheduler(FakeEngine()).submit(replace(request, sampler="llada"), lambda event: None)


def test_two_hundred_that_come_and_go_leave_nothing_behind(run_scheduler) -> None:
    threads_before = threading.active_count()
    harness = run_scheduler(FakeEngine(), max_rows=8)
    harness.write(LineRequest(PROMPT))
    cache_before = harness.scheduler.stats().cache
    for number in range(200):
        harness.submit(LineRequest(PROMPT, mode=("diffusion", "ar", "self_speculation")[number % 3], max_new_tokens=200, seed=number))
        if number % 5:
            harness.tickets[-1].cancel()
        else:
            harness.tickets[number // 2].cancel()
    for ticket in harness.tickets:
        ticket.cancel()
    for inbox in harness.inboxes:
        inbox.result()
    stats = harness.scheduler.stats()
    assert (stats.running, stats.waiting) == (0, 0)
    assert stats.finished + stats.cancelled == stats.accepted == 201
    assert (stats.cache.blocks, stats.cache.bytes) == (cache_before.blocks, cache_before.bytes)
    tickets = [weakref.ref(ticket) for ticket in harness.tickets]
    harness.tickets.clear()
    del ticket
    harness.scheduler.close()
    gc.collect()
    assert [ticket() for ticket in tickets if ticket() is not None] == []
    assert threading.active_count() == threads_before


def test_engine_fault_fails_the_rows_of_its_step_only(run_scheduler) -> None:
    bad_token = 96

    def fail_on_bad_prompt(batch: StepBatch) -> None:
        if batch.input_ids.shape[1] > 1 and (batch.input_ids == bad_token).any():
            raise ValueError("boom")

    harness = run_scheduler(FakeEngine(fake_manifest(vocab_size=97), script=lambda ids: 40, before_step=fail_on_bad_prompt))
    good = harness.submit(LineRequest(PROMPT, max_new_tokens=200))
    bad = harness.submit(LineRequest((bad_token,) * 90))
    event = bad.end()
    assert isinstance(event, Failed)
    assert isinstance(event.error, EngineError)
    assert "boom" in str(event.error)
    assert good.result().tokens == 200
    assert harness.write(LineRequest(PROMPT, max_new_tokens=5))[0].tokens == 5
    assert harness.scheduler.stats().failed == 1


def test_engine_that_forgets_what_it_was_asked_for(run_scheduler) -> None:
    class Forgetful(FakeEngine):
        def step(self, batch: StepBatch) -> StepResult:
            return replace(super().step(batch), present=None)

    event = run_scheduler(Forgetful()).submit(LineRequest(PROMPT)).end()
    assert isinstance(event, Failed)
    assert "keys and values" in str(event.error)


def test_fault_between_steps_fails_open_lines_and_no_later_ones(run_scheduler, gate, monkeypatch, caplog) -> None:
    caplog.set_level(logging.CRITICAL)
    harness = held(run_scheduler, gate, max_rows=2)
    harness.submit(LineRequest(PROMPT))
    harness.submit(LineRequest(PROMPT))
    with monkeypatch.context() as patched:
        patched.setattr(ContextArena, "join", lambda self, row, context: 1 / 0)
        gate.opened.set()
        for inbox in harness.inboxes:
            event = inbox.end()
            assert isinstance(event, Failed)
            assert "ZeroDivisionError" in str(event.error)
    harness.submit(LineRequest(PROMPT)).result()
    assert harness.scheduler.stats().failed == 3


def test_policy_fault_fails_its_own_line_only(run_scheduler, monkeypatch, caplog) -> None:
    from dlm_runtime.policies import Autoregressive

    def broken(self, line):
        if line.limit == 13:
            raise ZeroDivisionError("policy")
        return (yield from original(self, line))

    def breaks_later(self, line):
        decoding = original(self, line)
        reply = yield next(decoding)
        if line.limit == 14:
            raise ZeroDivisionError("policy")
        while True:
            try:
                asked = decoding.send(reply)
            except StopIteration:
                return
            inner = yield asked
            reply = inner

    original = Autoregressive.decode
    monkeypatch.setattr(Autoregressive, "decode", breaks_later)
    caplog.set_level(logging.CRITICAL)
    harness = run_scheduler(FakeEngine(script=lambda ids: 40))
    inboxes = [harness.submit(LineRequest(PROMPT, mode="ar", max_new_tokens=limit)) for limit in (12, 14, 15)]
    assert [type(inbox.end()).__name__ for inbox in inboxes] == ["Finished", "Failed", "Finished"]
    monkeypatch.setattr(Autoregressive, "decode", broken)
    inboxes = [harness.submit(LineRequest(PROMPT, mode="ar", max_new_tokens=limit)) for limit in (12, 13, 15)]
    assert [type(inbox.end()).__name__ for inbox in inboxes] == ["Finished", "Failed", "Finished"]


def test_listener_fault_drops_its_own_line_only(run_scheduler, caplog) -> None:
    caplog.set_level(logging.CRITICAL)
    harness = run_scheduler(FakeEngine(script=lambda ids: 40))

    def listener(event: object) -> None:
        raise OSError("nobody listens")

    harness.scheduler.submit(LineRequest(PROMPT, max_new_tokens=300), listener)
    assert harness.write(LineRequest(PROMPT, max_new_tokens=50))[0].tokens == 50
    harness.scheduler.close(drain_s=PATIENCE_S)
    assert harness.scheduler.stats().cancelled == 1


def test_close_lets_open_lines_end(run_scheduler, gate) -> None:
    harness = held(run_scheduler, gate, max_rows=2)
    inboxes = [harness.submit(LineRequest(PROMPT, max_new_tokens=20)) for _ in range(5)]
    closer = threading.Thread(target=harness.scheduler.close, kwargs={"drain_s": PATIENCE_S})
    closer.start()
    gate.opened.set()
    closer.join(PATIENCE_S)
    assert not closer.is_alive()
    assert all(inbox.result().finish_reason in ("length", "eos") for inbox in inboxes)
    with pytest.raises(SchedulerClosed):
        harness.submit(LineRequest(PROMPT))


def test_close_without_drain_fails_what_is_open(run_scheduler, gate) -> None:
    harness = held(run_scheduler, gate, max_rows=2)
    for _ in range(5):
        harness.submit(LineRequest(PROMPT))
    closer = threading.Thread(target=harness.scheduler.close, kwargs={"drain_s": 0.0})
    closer.start()
    gate.opened.set()
    closer.join(PATIENCE_S)
    for inbox in harness.inboxes[1:]:
        event = inbox.end()
        assert isinstance(event, Failed)
        assert isinstance(event.error, SchedulerClosed)
    harness.inboxes[0].end()
    harness.scheduler.close()


def test_close_before_start() -> None:
    scheduler = Scheduler(FakeEngine())
    events: list[object] = []
    scheduler.submit(LineRequest(PROMPT), events.append)
    scheduler.close()
    assert [type(event) for event in events] == [Failed]
    with pytest.raises(SchedulerClosed):
        scheduler.start()


@pytest.mark.parametrize(
    ("request_", "error", "field"),
    [
        (LineRequest((500,)), RequestError, "prompt_ids"),
        (LineRequest((-1,)), RequestError, "prompt_ids"),
        (LineRequest((5,) * 4090), PromptTooLong, "prompt tokens"),
        (LineRequest((5,), max_new_tokens=4096), PromptTooLong, "prompt tokens"),
    ],
)
def test_request_that_no_row_can_serve(request_, error, field) -> None:
    scheduler = Scheduler(FakeEngine())
    with pytest.raises(error) as caught:
        scheduler.submit(request_, lambda event: None)
    assert caught.value.field == field
    with pytest.raises(error):
        write_line(FakeEngine(), request_)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt_ids": ()},
        {"max_new_tokens": 0},
        {"threshold": 1.5},
        {"threshold": float("nan")},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"seed": -1},
        {"seed": 2**63},
        {"budget_ms": 0},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": float("nan")},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": float("nan")},
        {"guidance": -1.0},
        {"guidance": float("inf")},
    ],
)
def test_request_that_is_wrong_for_every_model(wrong) -> None:
    with pytest.raises(RequestError) as caught:
        LineRequest(**{"prompt_ids": (1,), **wrong})
    assert caught.value.field == next(iter(wrong))
    assert str(caught.value).startswith(next(iter(wrong)))


def test_mode_the_model_does_not_have() -> None:
    manifest = fake_manifest().model_copy(update={"modes": ("ar",), "default_mode": "ar"})
    with pytest.raises(RequestError, match="mode='diffusion'"):
        Scheduler(FakeEngine(manifest)).submit(LineRequest((5,), mode="diffusion"), lambda event: None)
