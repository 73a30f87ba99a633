"""The authored text keeps the rules that training and evaluation rely on."""

import string

import pytest
from tavern_model import writing

SLOTS = {
    "name", "trade", "home", "kin", "kin_name", "friend", "rival", "ware", "price", "ware1", "ware2", "years",
    "rumour", "rumour_place", "lost", "reward", "drink", "fear", "saint", "town", "days",
}  # fmt: skip


def slots_of(template: str) -> list[str]:
    return [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]


@pytest.mark.parametrize("name", sorted(writing.intents()))
def test_every_reply_holds_each_needed_fact_once_and_no_other(name: str) -> None:
    intent = writing.intents()[name]
    assert set(intent.needs) <= SLOTS
    assert set(intent.replies) == set(writing.VOICES)
    for options in intent.replies.values():
        for template in options.values():
            assert sorted(slots_of(template)) == sorted(intent.needs), template


@pytest.mark.parametrize("name", sorted(writing.intents()))
def test_the_first_word_tells_the_variants_of_a_voice_apart(name: str) -> None:
    for voice, options in writing.intents()[name].replies.items():
        first_words = [template.split()[0] for template in options.values()]
        assert len(set(first_words)) == len(first_words), (voice, first_words)


def test_whoever_may_lack_a_fact_has_an_answer_for_it() -> None:
    always_known = {"name", "trade"}
    for intent in writing.intents().values():
        if set(intent.needs) - always_known:
            assert set(intent.unknown) == set(writing.VOICES), intent.name


def test_tails_cover_every_voice_and_mood() -> None:
    assert {voice: set(moods) for voice, moods in writing.tails().items()} == {
        voice: set(writing.MOODS) - {"calm"} for voice in writing.VOICES
    }
