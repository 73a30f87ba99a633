"""The tavern's tokenizer: byte-fallback BPE in which an invented name is one token a syllable and a number is one token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tavern_model import writing
from tavern_model.dialogue import Dialogue
from tavern_model.world import World

VOCAB_SIZE = 4096
CARD, PLAYER, NPC, END, MASK, PAD = SPECIAL_TOKENS = ("<|card|>", "<|player|>", "<|npc|>", "<|end|>", "<|mask|>", "<|pad|>")

_SEAM = "\x1f"  # between the syllables of a name, in the tokenizer's training text only
_WORDS = Regex(r"\n|[.,!?:'\"()]| ?[0-9]{1,2}")


def _pre_tokenizer(seams: bool) -> pre_tokenizers.PreTokenizer:
    steps = [pre_tokenizers.Split(_WORDS, "isolated"), pre_tokenizers.Metaspace(prepend_scheme="first")]
    return pre_tokenizers.Sequence(([pre_tokenizers.Split(_SEAM, "removed")] if seams else []) + steps)


def _training_text(samples: int, rng: np.random.Generator) -> Iterator[str]:
    lists = writing.names()
    world, dialogue = World(rng), Dialogue(rng)
    for _ in range(samples):
        villager = world.villager()
        exchanges = [dialogue.exchange(villager) for _ in range(4)]
        yield villager.card_text()
        for exchange in exchanges:
            yield exchange.player
            yield exchange.reply
        for starts, ends in ((lists.person_starts, lists.person_ends), (lists.place_starts, lists.place_ends)):
            yield " ".join(f"to {world.pick(starts)}{_SEAM}{world.pick(ends)}" for _ in range(40))


def train_tokenizer(samples: int = 20_000, seed: int = 0) -> Tokenizer:
    """Train the tokenizer on generated text. Deterministic in `seed`."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token=None, fuse_unk=False))
    # A word is the same token at the start of a card's line as within a sentence, so that "home:" on the card meets "home" in a question.
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace("\n", "\n ")])
    tokenizer.pre_tokenizer = _pre_tokenizer(seams=True)
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first"), decoders.Fuse(), decoders.Replace("\n ", "\n")]
    )
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    alphabet = sorted({chr(code) for code in range(33, 127)} | {"\n", "\u2581"})
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[*SPECIAL_TOKENS, *byte_tokens],
        initial_alphabet=alphabet,
        show_progress=False,
        min_frequency=2,
    )
    tokenizer.train_from_iterator(_training_text(samples, np.random.default_rng(seed)), trainer)
    return _finished(tokenizer)


def _finished(trained: Tokenizer) -> Tokenizer:
    """The same vocabulary, with byte tokens as ordinary entries, without the seam, and with no merge that makes a name one token.

    A name that happened to be common in the training text would otherwise be a rare token of its own, which nothing can copy.
    """
    data = json.loads(trained.to_str())
    lists = writing.names()
    names = {start + end for start in lists.person_starts for end in lists.person_ends}
    names |= {start + end for start in lists.place_starts for end in lists.place_ends}
    merges = data["model"]["merges"]
    data["model"]["merges"] = [pair for pair in merges if "".join(pair).removeprefix("\u2581") not in names]
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] in SPECIAL_TOKENS]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.pre_tokenizer = _pre_tokenizer(seams=False)
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of `token`. Raises `KeyError` when the tokenizer lacks it."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise KeyError(token)
    return found


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a checkpoint folder."""
    return Tokenizer.from_file(str(path / "tokenizer.json"))
