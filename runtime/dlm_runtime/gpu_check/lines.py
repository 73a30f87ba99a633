"""Whole lines through the scheduler: the same words as on the CPU, the same again, and the same alone and in company."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dlm_runtime.bundle import Bundle, Manifest, Mode
from dlm_runtime.demo.crowd import gather
from dlm_runtime.dialogue.roster import Roster
from dlm_runtime.embedded import tavern_characters, tavern_players
from dlm_runtime.engines.base import Engine
from dlm_runtime.errors import BundleError, DlmError, RequestError
from dlm_runtime.gpu_check.check import CheckFailed
from dlm_runtime.scheduler import Failed, Finished, LineEvent, LineRequest, Scheduler
from dlm_runtime.service.launch import load_prompts

NEW_TOKENS = 32
TEMPERATURE = 0.8
_PATIENCE_S = 300.0
Words = tuple[int, ...]


@dataclass(frozen=True)
class Script:
    """The prompts that lines are written after, and how they were come by."""

    prompts: tuple[Words, ...]
    source: str
    new_tokens: int

    @staticmethod
    def of(bundle: Bundle, count: int) -> Script:
        """Players' words to the tavern's characters where the bundle can read them, random words where not."""
        manifest = bundle.manifest
        tokens = max(1, min(NEW_TOKENS, manifest.max_context // 2))
        try:
            _, builder = load_prompts(bundle)
            roster = Roster.load(tavern_characters())
            crowd = gather(roster, tavern_players(), count, seed=0)
            found = tuple(builder.build(roster.get(one.character_id), (), one.player_text, tokens).ids for one in crowd)
            return Script(found, "players' words to the tavern's characters", tokens)
        except (BundleError, RequestError) as error:
            rng = np.random.default_rng(1)
            words = np.array(sorted({*range(manifest.vocab_size)} - {manifest.mask_token_id, *manifest.eos_token_ids}))
            length = max(1, min(40, manifest.max_context - tokens))
            found = tuple(tuple(rng.choice(words, int(size)).tolist()) for size in rng.integers(1, length + 1, count))
            return Script(found, f"random words, as {error}", tokens)

    def requests(self, mode: Mode, temperature: float = 0.0) -> list[LineRequest]:
        """One for each prompt."""
        return [
            LineRequest(ids, mode=mode, max_new_tokens=self.new_tokens, temperature=temperature, seed=number)
            for number, ids in enumerate(self.prompts)
        ]


def write_lines(engine: Engine, requests: Sequence[LineRequest], max_rows: int) -> list[Words]:
    """The words of each line, at most `max_rows` written at a time. Raises what a line failed with."""
    ends: list[LineEvent | None] = [None] * len(requests)
    left = threading.Semaphore(0)

    def listener(number: int) -> Callable[[LineEvent], None]:
        def hear(event: LineEvent) -> None:
            if isinstance(event, Finished | Failed):
                ends[number] = event
                left.release()

        return hear

    scheduler = Scheduler(engine, max_rows=max_rows, max_waiting=len(requests))
    scheduler.start()
    try:
        for number, request in enumerate(requests):
            scheduler.submit(request, listener(number))
        for _ in requests:
            if not left.acquire(timeout=_PATIENCE_S):
                raise CheckFailed(f"a line was not done after {_PATIENCE_S:.0f} s")
    finally:
        scheduler.close(drain_s=0.0)
    return [_words(event) for event in ends]


def _words(event: LineEvent | None) -> Words:
    if isinstance(event, Failed):
        raise event.error
    if not isinstance(event, Finished):
        raise DlmError("a line has no end")
    return event.result.token_ids


class Lines:
    """The checks on one engine; what the CPU writes is written once for all engines."""

    def __init__(self, reference: Engine, script: Script) -> None:
        self._reference = reference
        self._script = script
        self._expected: dict[tuple[Mode, float], list[Words]] = {}
        self._crowd = len(script.prompts)

    def expected(self, mode: Mode, temperature: float = 0.0) -> list[Words]:
        """What the CPU writes."""
        key = (mode, temperature)
        if key not in self._expected:
            self._expected[key] = write_lines(self._reference, self._script.requests(mode, temperature), self._crowd)
        return self._expected[key]

    def as_on_the_cpu(self, engine: Engine, mode: Mode) -> str:
        """Greedy lines, token for token."""
        expected = self.expected(mode)
        found = write_lines(engine, self._script.requests(mode), self._crowd)
        tokens = sum(map(len, expected))
        if differs := _differences(found, expected):
            raise CheckFailed(f"{differs}. Where logits differ by more than 1e-3 (halves, TF32), a near tie may tip; else this is an error")
        return f"{len(expected)} lines, {tokens} tokens, all the same"

    def speculation_as_autoregression(self, engine: Engine) -> str:
        """Self-speculation promises the words of greedy autoregression."""
        ours = [write_lines(engine, self._script.requests(mode), self._crowd) for mode in _SPECULATION]
        if differs := _differences(*ours):
            raise CheckFailed(differs)
        return f"{len(ours[0])} lines, all the same"

    def twice(self, engine: Engine, mode: Mode) -> str:
        """Sampled lines of the same seeds, twice."""
        ours = [write_lines(engine, self._script.requests(mode, TEMPERATURE), self._crowd) for _ in range(2)]
        if differs := _differences(*ours):
            raise CheckFailed(f"the second time {differs}")
        as_there = sum(found == expected for found, expected in zip(ours[0], self.expected(mode, TEMPERATURE), strict=True))
        return f"{len(ours[0])} lines at temperature {TEMPERATURE}, all the same; {as_there} of them as on the CPU"

    def alone_and_in_company(self, engine: Engine, mode: Mode) -> str:
        """Sampled lines of the same seeds, one at a time and all at once."""
        requests = self._script.requests(mode, TEMPERATURE)
        alone, together = (write_lines(engine, requests, rows) for rows in (1, self._crowd))
        if differs := _differences(together, alone):
            raise CheckFailed(f"in company {differs}. Kernels may round otherwise for other batch sizes, and tip a near tie")
        return f"{len(alone)} lines at temperature {TEMPERATURE}, all the same"


_SPECULATION: tuple[Mode, Mode] = ("self_speculation", "ar")


def usable_modes(manifest: Manifest) -> tuple[Mode, ...]:
    """The modes of a model, its own first."""
    return (manifest.default_mode, *(mode for mode in manifest.modes if mode != manifest.default_mode))


def _differences(found: Sequence[Words], expected: Sequence[Words]) -> str:
    """A sentence on the lines that differ, empty if none does."""
    wrong = [number for number, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1]]
    if not wrong:
        return ""
    first = wrong[0]
    pairs = list(zip(found[first], expected[first], strict=False))
    place = next((index for index, (ours, theirs) in enumerate(pairs) if ours != theirs), len(pairs))
    ours, theirs = ("the end" if place >= len(words) else str(words[place]) for words in (found[first], expected[first]))
    return f"{len(wrong)} of {len(expected)} lines differ; in line {first} token {place} is {ours}, not {theirs}"
