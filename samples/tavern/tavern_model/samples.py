"""Training samples as token ids: villagers with conversations, and the copy drills that teach the model to look things up."""

from __future__ import annotations

import numpy as np
from tokenizers import Encoding, Tokenizer

from tavern_model import tokens, writing
from tavern_model.conversation import CardSample, Turn
from tavern_model.dialogue import Dialogue, Exchange
from tavern_model.world import Villager, World

BRANCHES_PER_CARD = 10  # more than a row holds; `pack` takes what fits
DRILL_KEYS = 256  # few and well-trained keys: looking up is learned before every rare token is
RARE_DRILL_SHARE = 0.15  # drills over the whole vocabulary, so that words never seen as facts are copied too


def _span(encoded: Encoding, start: int, length: int) -> list[int]:
    """Indices of the tokens that cover `length` characters of the text from `start`."""
    return [index for index, (left, right) in enumerate(encoded.offsets) if left < start + length and right > start]


class SampleMaker:
    """Draws `CardSample`s. With `evaluation` every name is one that training never uses."""

    def __init__(self, tokenizer: Tokenizer, rng: np.random.Generator, evaluation: bool = False) -> None:
        self.tokenizer, self.rng = tokenizer, rng
        self.world, self.dialogue = World(rng, evaluation), Dialogue(rng)
        self.special = {name: tokens.token_id(tokenizer, name) for name in tokens.SPECIAL_TOKENS}
        self.ordinary = np.arange(len(tokens.SPECIAL_TOKENS) + 256, tokenizer.get_vocab_size())
        self.drill_keys = self.ordinary[:: len(self.ordinary) // DRILL_KEYS]
        self.drill_values = np.array(sorted(self._fact_tokens()))
        self.colon, self.newline, self.stop = (self.encode(text)[-1] for text in ("a:", "a\n", "a."))

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def _fact_tokens(self) -> set[int]:
        """Tokens that facts are made of: syllables of names, and numbers."""
        lists = writing.names()
        starts = [self.encode(f"a {start}")[1:] for start in (*lists.person_starts, *lists.place_starts)]
        ends = [self.encode(f"a {lists.person_starts[0]}{end}")[2:] for end in (*lists.person_ends, *lists.place_ends)]
        numbers = [self.encode(f"a {number}")[1:] for number in range(2, 100)]
        return {pieces[0] for pieces in (*starts, *ends, *numbers) if len(pieces) == 1}

    def turn(self, villager: Villager, exchange: Exchange) -> Turn:
        """The exchange as ids, with the card's token behind every token of a copied fact."""
        prompt = [self.special[tokens.PLAYER], *self.encode(exchange.player), self.special[tokens.NPC]]
        reply = self.tokenizer.encode(exchange.reply, add_special_tokens=False)
        card = self.tokenizer.encode(villager.card_text(), add_special_tokens=False)
        sources: list[int | None] = [None] * (len(reply.ids) + 1)
        for slot, value in exchange.slots.items():
            at = _span(reply, exchange.reply.index(value), len(value))
            source = _span(card, villager.where(slot, value, exchange.slots.get("ware", "")), len(value))
            for index, origin in zip(at, source, strict=False):
                if reply.ids[index] == card.ids[origin]:
                    sources[index] = origin + 1  # <|card|> stands before it
        return Turn(prompt, [*reply.ids, self.special[tokens.END]], sources)

    def villager(self) -> CardSample:
        """A card and conversations of one to three turns about it."""
        villager = self.world.villager()
        sample = CardSample([self.special[tokens.CARD], *self.encode(villager.card_text())])
        for _ in range(BRANCHES_PER_CARD):
            turns = int(self.rng.choice([1, 2, 3], p=[0.8, 0.15, 0.05]))
            sample.branches.append([self.turn(villager, self.dialogue.exchange(villager)) for _ in range(turns)])
        return sample

    def drill(self) -> CardSample:
        """Multi-query associative recall: a card of random `key: value` pairs; the question is a key, the answer `key: value`."""
        pairs = int(self.rng.integers(6, 14))
        rare = self.rng.random() < RARE_DRILL_SHARE
        keys = self.rng.choice(self.ordinary if rare else self.drill_keys, pairs, replace=False)
        pool = self.ordinary if rare else self.drill_values
        values = [self.rng.choice(pool, int(self.rng.integers(1, 4))).tolist() for _ in range(pairs)]
        sample, starts = CardSample([self.special[tokens.CARD]]), []
        for key, value in zip(keys.tolist(), values, strict=True):
            starts.append(len(sample.card) + 2)
            sample.card += [key, self.colon, *value, self.newline]
        for index in [*self.rng.permutation(pairs).tolist(), *self.rng.permutation(pairs).tolist()]:
            key, value = int(keys[index]), values[index]
            prompt = [self.special[tokens.PLAYER], key, self.special[tokens.NPC]]
            reply = [key, self.colon, *value, self.stop, self.special[tokens.END]]
            sample.branches.append([Turn(prompt, reply, [None, None, *range(starts[index], starts[index] + len(value)), None, None])])
        return sample
