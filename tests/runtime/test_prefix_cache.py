"""The prefix cache against what it must hold."""

from __future__ import annotations

import random

import numpy as np
import pytest
from dlm_runtime.cache import PrefixCache
from dlm_runtime.engines import KeyValues

BLOCK = 4
BLOCK_BYTES = 1 * 2 * 1 * BLOCK * 2 * 4


def context_of(token_ids: tuple[int, ...]) -> KeyValues:
    """One row, every position holding a number that depends on all tokens up to it."""
    running = np.cumsum(np.array(token_ids, np.float64) * np.arange(1, len(token_ids) + 1))
    return KeyValues.of(np.broadcast_to(running[:, None], (1, 2, 1, 1, len(token_ids), 2)).astype(np.float32))


def assert_same(found: list[KeyValues], expected: KeyValues, tokens: slice) -> None:
    np.testing.assert_array_equal(KeyValues.joined(found).arrays[0], expected.part(tokens=tokens).arrays[0])


def test_finds_whole_blocks_of_the_longest_known_beginning() -> None:
    cache = PrefixCache(2**20, BLOCK)
    known = tuple(range(10))
    cache.insert(known, context_of(known))
    assert cache.stats().blocks == 2
    assert len(cache.match(known, 10)) == 2
    assert len(cache.match(known, 7)) == 1
    assert len(cache.match((*known[:5], 99, 98, 97), 8)) == 1
    assert cache.match((7, *known), 11) == []
    assert_same(cache.match(known, 10), context_of(known), slice(8))


def test_holds_copies() -> None:
    cache = PrefixCache(2**20, BLOCK)
    known = tuple(range(4))
    context = context_of(known)
    cache.insert(known, context)
    context.arrays[0][:] = -1
    assert_same(cache.match(known, 4), context_of(known), slice(4))


def test_same_block_after_other_beginnings_is_another_block() -> None:
    cache = PrefixCache(2**20, BLOCK)
    one, two = (1, 1, 1, 1, 9, 9, 9, 9), (2, 2, 2, 2, 9, 9, 9, 9)
    for known in (one, two):
        cache.insert(known, context_of(known))
    assert cache.stats().blocks == 4
    for known in (one, two):
        assert_same(cache.match(known, 8)[1:], context_of(known), slice(4, 8))


def test_least_recently_used_goes_first_and_leaves_before_their_parents() -> None:
    cache = PrefixCache(3 * BLOCK_BYTES, BLOCK)
    old, new = (1,) * 8, (2,) * 8
    cache.insert(old, context_of(old))
    cache.insert(new[:4], context_of(new[:4]))
    cache.match(old, 8)
    cache.insert(new, context_of(new))  # its own first block is the oldest, yet must not go
    assert (len(cache.match(old, 8)), len(cache.match(new, 8))) == (1, 2)
    assert cache.stats().evicted_blocks == 1


@pytest.mark.parametrize("capacity_bytes", [0, BLOCK_BYTES - 1])
def test_no_room_at_all(capacity_bytes: int) -> None:
    cache = PrefixCache(capacity_bytes, BLOCK)
    cache.insert((1,) * 8, context_of((1,) * 8))
    assert cache.stats().blocks == 0
    assert cache.match((1,) * 8, 8) == []


def test_a_prompt_larger_than_the_budget_keeps_its_beginning() -> None:
    cache = PrefixCache(2 * BLOCK_BYTES, BLOCK)
    known = tuple(range(40))
    cache.insert(known, context_of(known))
    assert len(cache.match(known, 40)) == 2


def test_random_use_stays_exact_and_within_budget() -> None:
    rng = random.Random(4)
    cache = PrefixCache(20 * BLOCK_BYTES, BLOCK)
    for _ in range(2000):
        prompt = tuple(rng.choices((1, 2), k=rng.randrange(1, 25)))
        blocks = cache.match(prompt, len(prompt))
        if blocks:
            assert_same(blocks, context_of(prompt), slice(len(blocks) * BLOCK))
        cache.insert(prompt, context_of(prompt))
        stats = cache.stats()
        assert stats.bytes == stats.blocks * BLOCK_BYTES <= 20 * BLOCK_BYTES
        assert len(cache.match(prompt, len(prompt))) == len(prompt) // BLOCK, "what was just put in is there"
    assert stats.evicted_blocks > 100
    cache.clear()
    assert (cache.stats().blocks, cache.stats().bytes) == (0, 0)


@pytest.mark.parametrize(("capacity_bytes", "block_tokens"), [(-1, 4), (10, 0)])
def test_wrong_sizes(capacity_bytes: int, block_tokens: int) -> None:
    with pytest.raises(ValueError, match="capacity_bytes"):
        PrefixCache(capacity_bytes, block_tokens)


def test_prompts_in_blocks_share_whole_blocks_with_their_like_only() -> None:
    """In blocks of 6, which 4 does not divide: a cache block holds 12 tokens, and what was stored causally is not found."""
    cache = PrefixCache(2**20, BLOCK)
    known = tuple(range(26))
    assert (cache.size(), cache.size(6), cache.size(2)) == (4, 12, 4)
    cache.insert(known, context_of(known))
    assert cache.match(known, 26, block_length=6) == []
    cache.insert(known, context_of(known), block_length=6)
    assert [block.tokens for block in cache.match(known, 26, block_length=6)] == [12, 12]
    assert cache.match((*known[:11], 99, *known[12:]), 26, block_length=6) == []
    assert cache.match(known, 26, block_length=2) == []
    assert len(cache.match(known, 26)) == 6
