"""The corpus generator: deterministic, honest about what a card says, held-out names kept apart."""

import numpy as np
import pytest
from tavern_model.dialogue import Dialogue
from tavern_model.world import World, held_out


def exchanges(seed: int, count: int = 200):
    rng = np.random.default_rng(seed)
    world, dialogue = World(rng), Dialogue(rng)
    for _ in range(count):
        villager = world.villager()
        yield villager, dialogue.exchange(villager)


def test_the_same_seed_gives_the_same_corpus() -> None:
    assert list(exchanges(3, 50)) == list(exchanges(3, 50))


def test_an_answer_contains_the_facts_of_the_card() -> None:
    for villager, exchange in exchanges(1):
        for value in exchange.slots.values():
            assert value in exchange.reply
            assert value in villager.card_text()


def test_a_fact_that_is_not_on_the_card_is_never_answered() -> None:
    lacking = [exchange for _, exchange in exchanges(2, 400) if not exchange.known]
    assert lacking
    assert all(not exchange.slots and "{" not in exchange.reply for exchange in lacking)


@pytest.mark.parametrize("evaluation", [False, True])
def test_names_of_evaluation_never_appear_in_training(evaluation: bool) -> None:
    world = World(np.random.default_rng(5), evaluation)
    assert all(held_out(world.person()) == evaluation for _ in range(300))
