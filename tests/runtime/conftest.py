"""Helpers of the scheduler's tests: an inbox for events, a gate that holds the engine, and random requests."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from dlm_runtime.bundle import Manifest
from dlm_runtime.engines import Engine, StepBatch
from dlm_runtime.scheduler import Failed, Finished, LineEvent, LineRequest, LineResult, Scheduler, Ticket

PATIENCE_S = 30.0


@dataclass
class Inbox:
    """A listener that remembers. `end` waits for the last event."""

    on_end: Callable[[], None]
    events: list[LineEvent] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __call__(self, event: LineEvent) -> None:
        self.events.append(event)
        if isinstance(event, Finished | Failed):
            self.on_end()
            self.ended.set()

    def end(self) -> Finished | Failed:
        assert self.ended.wait(PATIENCE_S), "no last event came"
        terminal = [event for event in self.events if isinstance(event, Finished | Failed)]
        assert len(terminal) == 1, "a line has exactly one last event"
        assert self.events[-1] is terminal[0]
        return terminal[0]

    def result(self) -> LineResult:
        event = self.end()
        assert isinstance(event, Finished), event
        return event.result


@dataclass
class Gate:
    """Holds the engine's first step until it is opened, so that a test can arrange what waits meanwhile."""

    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def __call__(self, batch: StepBatch) -> None:
        self.reached.set()
        assert self.opened.wait(PATIENCE_S)


@dataclass
class Harness:
    """A scheduler and the inboxes of what was submitted to it."""

    scheduler: Scheduler
    inboxes: list[Inbox] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)  # numbers of the inboxes, in the order in which their lines ended

    def submit(self, request: LineRequest) -> Inbox:
        number = len(self.inboxes)
        inbox = Inbox(lambda: self.ended.append(number))
        self.inboxes.append(inbox)
        self.tickets.append(self.scheduler.submit(request, inbox))
        return inbox

    def write(self, *requests: LineRequest) -> list[LineResult]:
        inboxes = [self.submit(request) for request in requests]
        return [inbox.result() for inbox in inboxes]


@pytest.fixture
def run_scheduler() -> Iterator[Callable[..., Harness]]:
    """Starts schedulers and closes them when the test is over."""
    harnesses: list[Harness] = []

    def start(engine: Engine, **options: int) -> Harness:
        harness = Harness(Scheduler(engine, **options))
        harness.scheduler.start()
        harnesses.append(harness)
        return harness

    yield start
    for harness in harnesses:
        harness.scheduler.close(drain_s=0.0)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def random_requests() -> Callable[..., list[LineRequest]]:
    """Requests of every kind; many begin alike, so that the prefix cache is used."""

    def make(manifest: Manifest, count: int, seed: int, temperatures: tuple[float, ...] = (0.0,)) -> list[LineRequest]:
        rng = random.Random(seed)
        words = [i for i in range(manifest.vocab_size) if i not in (manifest.mask_token_id, *manifest.eos_token_ids)]
        beginnings = [tuple(rng.choices(words, k=length)) for length in (0, 0, 7, 16, 40, 64)]
        return [
            LineRequest(
                rng.choice(beginnings) + tuple(rng.choices(words, k=rng.randrange(1, 40))),
                mode=rng.choice(manifest.modes),
                max_new_tokens=rng.randrange(1, 40),
                threshold=rng.choice((None, 0.3, 0.6, 1.0)),
                temperature=rng.choice(temperatures),
                seed=rng.randrange(2**40),
                priority=rng.randrange(3),
                budget_ms=rng.choice((None, 50, 500)),
                drafts=rng.random() < 0.3,
            )
            for _ in range(count)
        ]

    return make


@pytest.fixture
def text_of() -> Callable[[LineResult], tuple[object, ...]]:
    """What must not depend on company, cache or timing."""
    return lambda result: (result.token_ids, result.finish_reason, result.tokens, result.mode, result.seed)
