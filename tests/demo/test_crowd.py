"""Who is asked what in the demonstration."""

import pytest
from dlm_runtime.demo.crowd import gather
from dlm_runtime.dialogue.roster import Roster
from dlm_runtime.embedded import tavern_characters, tavern_players


@pytest.fixture(scope="module")
def roster() -> Roster:
    return Roster.load(tavern_characters())


def test_the_default_crowd_is_everybody_once(roster: Roster) -> None:
    crowd = gather(roster, tavern_players(), 32, seed=0)
    assert {encounter.character_id for encounter in crowd} == {character.id for character in roster}


@pytest.mark.parametrize("count", [1, 31, 32, 100])
@pytest.mark.parametrize("seed", [0, 1])
def test_any_number_of_players_finds_somebody_and_no_question_comes_twice(roster: Roster, count: int, seed: int) -> None:
    crowd = gather(roster, tavern_players(), count, seed)
    assert len(crowd) == count
    assert len({(encounter.character_id, encounter.player_text) for encounter in crowd}) == count


def test_a_seed_draws_the_same_crowd_again_and_another_seed_another(roster: Roster) -> None:
    assert gather(roster, tavern_players(), 20, 7) == gather(roster, tavern_players(), 20, 7)
    assert gather(roster, tavern_players(), 20, 7) != gather(roster, tavern_players(), 20, 8)
