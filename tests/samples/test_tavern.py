"""The embedded model does what the README says of it, through bundle, engine and scheduler."""

from __future__ import annotations

import queue
from collections.abc import Iterator

import pytest
from dlm_runtime.bundle import Bundle, Mode
from dlm_runtime.demo.crowd import Encounter, gather
from dlm_runtime.dialogue.prompt import PromptBuilder
from dlm_runtime.dialogue.roster import Roster
from dlm_runtime.dialogue.template import ChatTemplate
from dlm_runtime.dialogue.tokens import Tokens
from dlm_runtime.embedded import tavern_bundle, tavern_characters, tavern_players
from dlm_runtime.engines import OnnxEngine
from dlm_runtime.scheduler import Finished, LineRequest, LineResult, Scheduler

MODES: tuple[Mode, ...] = ("diffusion", "self_speculation", "ar")
MAX_NEW_TOKENS = 64


class Tavern:
    """The embedded tavern without a server: encounters in, finished lines out."""

    def __init__(self) -> None:
        bundle = Bundle.load(tavern_bundle())
        assert bundle.tokenizer_path is not None
        assert bundle.manifest.chat_template is not None
        self.engine, self.tokens = OnnxEngine(bundle), Tokens.from_file(bundle.tokenizer_path)
        self.roster = Roster.load(tavern_characters())
        self._prompts = PromptBuilder(self.tokens, ChatTemplate(bundle.manifest.chat_template), bundle.manifest.max_context)
        self._scheduler = Scheduler(self.engine)
        self._scheduler.start()

    def crowd(self, count: int, seed: int = 0) -> list[Encounter]:
        return gather(self.roster, tavern_players(), count, seed)

    def speak(self, encounters: list[Encounter], mode: Mode, seed: int = 0, temperature: float = 0.0) -> list[LineResult]:
        """All encounters at once."""
        waiting: list[queue.Queue] = [queue.Queue() for _ in encounters]
        for encounter, events in zip(encounters, waiting, strict=True):
            prompt = self._prompts.build(self.roster.get(encounter.character_id), (), encounter.player_text, MAX_NEW_TOKENS)
            request = LineRequest(prompt.ids, mode, max_new_tokens=MAX_NEW_TOKENS, seed=seed, temperature=temperature)
            self._scheduler.submit(request, events.put)
        return [self._last(events) for events in waiting]

    def text(self, result: LineResult) -> str:
        return self.tokens.decode(result.token_ids)

    def close(self) -> None:
        self._scheduler.close()
        self.engine.close()

    @staticmethod
    def _last(events: queue.Queue) -> LineResult:
        while not isinstance(event := events.get(timeout=60), Finished):
            pass
        return event.result


@pytest.fixture(scope="module")
def tavern() -> Iterator[Tavern]:
    made = Tavern()
    yield made
    made.close()


@pytest.mark.parametrize("mode", MODES)
def test_thirty_two_characters_say_thirty_two_different_lines(tavern: Tavern, mode: Mode) -> None:
    lines = tavern.speak(tavern.crowd(32), mode)
    assert len({tavern.text(line) for line in lines}) == 32
    assert {line.finish_reason for line in lines} == {"eos"}


def test_diffusion_commits_at_least_three_tokens_a_forward(tavern: Tavern) -> None:
    lines = tavern.speak(tavern.crowd(32), "diffusion")
    assert sum(line.tokens for line in lines) / sum(line.forwards for line in lines) >= 3.0


def test_self_speculation_says_what_greedy_autoregression_says(tavern: Tavern) -> None:
    crowd = tavern.crowd(32)
    assert [line.token_ids for line in tavern.speak(crowd, "self_speculation")] == [line.token_ids for line in tavern.speak(crowd, "ar")]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_line_is_the_same_alone_and_among_sixty_three_others(tavern: Tavern, mode: Mode, temperature: float) -> None:
    crowd = tavern.crowd(64, seed=5)
    together = tavern.speak(crowd, mode, seed=3, temperature=temperature)
    for index in (0, 17, 40, 63):
        alone = tavern.speak([crowd[index]], mode, seed=3, temperature=temperature)
        assert alone[0].token_ids == together[index].token_ids


@pytest.mark.parametrize("mode", MODES)
def test_answers_hold_the_facts_of_the_card(tavern: Tavern, mode: Mode) -> None:
    """Prices, kin, homes and the like: nine in ten answers to the crowd's questions name a fact from the card."""
    asked = [one for one in tavern.crowd(96, seed=11) if not one.player_text.startswith(("What is your name", "Who are you"))]
    right = 0
    for encounter, line in zip(asked, tavern.speak(asked, mode), strict=True):
        character = tavern.roster.get(encounter.character_id)
        values = [character.trade, *_values(character.facts)]
        right += any(value in tavern.text(line) for value in values)
    assert right >= 0.9 * len(asked)


def _values(facts: dict) -> Iterator[str]:
    for value in facts.values():
        if isinstance(value, dict):
            yield from (str(price) for price in value.values())
            yield from value
        else:
            yield from str(value).replace(" near ", " ").split()
