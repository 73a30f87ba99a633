"""The arena keeps every row's context while rows come, grow and go."""

from __future__ import annotations

import random
import weakref

import numpy as np
from dlm_runtime.engines import KeyValues, fake_manifest
from dlm_runtime.policies import Extend, Line
from dlm_runtime.scheduler.arena import ContextArena
from dlm_runtime.scheduler.arenas import Arenas
from dlm_runtime.scheduler.row import Row
from dlm_runtime.scheduler.types import LineRequest


def new_row() -> Row:
    return Row(LineRequest((1,)), "diffusion", lambda event: None, lambda: None)


def random_context(values: np.random.Generator, rows: int, tokens: int) -> KeyValues:
    """Of the model below: layers 0 and 2 alike, layer 1 wider."""
    context = KeyValues.zeros(MANIFEST, rows, tokens)
    for array in context.arrays:
        array[...] = values.normal(size=array.shape)
    return context


def assert_same(found: KeyValues, expected: KeyValues) -> None:
    for mine, theirs in zip(found.arrays, expected.arrays, strict=True):
        np.testing.assert_array_equal(mine, theirs)


MANIFEST = fake_manifest().model_copy(update={"layers": 3, "layer_caches": ((1, 2), (2, 3), (1, 2)), "cache_type": "float16"})


def test_random_life() -> None:
    rng, values = random.Random(1), np.random.default_rng(1)
    arenas = [ContextArena(MANIFEST), ContextArena(MANIFEST)]
    arena, other = arenas
    held: dict[Row, KeyValues] = {}
    for _ in range(600):
        choice = rng.random()
        if choice < 0.4 and len(held) < 70:
            context, row = random_context(values, 1, rng.randrange(0, 90)), new_row()
            arena.join(row, context if context.tokens or rng.random() < 0.5 else None)
            held[row] = context
        elif choice < 0.6 and arena.rows:
            place = rng.randrange(len(arena.rows))
            row = arena.rows[place]
            if rng.random() < 0.3:
                arena.move(place, other)
            else:
                arena.leave(place)
                del held[row]
        elif arena.rows:
            append_at_random(arena, held, rng, values)
        assert {*arena.rows, *other.rows} == set(held)
        for one in arenas:
            check(one, held)


def append_at_random(arena: ContextArena, held: dict[Row, KeyValues], rng: random.Random, values: np.random.Generator) -> None:
    length = rng.choice((1, 8))
    n = len(arena.rows)
    present = random_context(values, n, length)
    counts = np.array([rng.randrange(length + 1) for _ in range(n)])
    keeps = arena.slate.widened("keeps", length)
    keeps[:n, :length] = values.integers(0, length, (n, length))
    arena.append(present, counts)
    for place, row in enumerate(arena.rows):
        alone = present.part(slice(place, place + 1))
        new = [alone.part(tokens=slice(column, column + 1)) for column in keeps[place, : counts[place]].tolist()]
        held[row] = KeyValues.joined([held[row], *new])


def check(arena: ContextArena, held: dict[Row, KeyValues]) -> None:
    past = arena.past
    assert [array.shape[0] for array in past.arrays] == [2, 1]
    for array in past.arrays:
        assert array.dtype == np.float16
        assert array[0, 0].flags.c_contiguous or array.size == 0
        assert np.isfinite(array).all()
    for place, row in enumerate(arena.rows):
        assert arena.slate.context[place] == held[row].tokens
        assert_same(past.part(slice(place, place + 1), slice(held[row].tokens)), held[row])
        assert_same(arena.context(place), held[row])


def test_padding_of_a_long_row_is_given_up_when_nobody_is_left() -> None:
    arena = ContextArena(MANIFEST)
    for tokens, capacity in ((200, 224), (10, 32), (30, 32), (40, 64), (33, 64)):
        arena.join(new_row(), KeyValues.zeros(MANIFEST, 1, tokens))
        assert arena.past.tokens == capacity
        arena.leave(0)


def test_an_arena_for_long_contexts_goes_with_its_last_row() -> None:
    arenas = Arenas(MANIFEST)
    line, rows = Line((1,), 5, (2,)), [new_row() for _ in range(3)]
    keys = [arenas.key_for(line, Extend(7), tokens) for tokens in (40, 300, 900)]
    short, *long = [arenas.join(key, row, None)[0] for key, row in zip(keys, rows, strict=True)]
    assert [len(arena.rows) for _, arena in arenas] == [1, 1, 1]
    dead = [weakref.ref(arena) for arena in long]
    for arena in long:
        arena.leave(0)
    del long, arena
    arenas.release()
    assert [one() for one in dead] == [None, None]
    assert arenas.rows == [rows[0]]
    short.leave(0)
    arenas.release()
    assert len(arenas) == 0
    assert arenas.arena(keys[0]) is short


def test_a_row_takes_what_it_is_in_the_middle_of_along() -> None:
    """Also into an arena with wider or narrower arrays."""
    one, two = ContextArena(MANIFEST), ContextArena(MANIFEST)
    row = new_row()
    for arena, columns in ((one, 5), (two, 40)):
        arena.join(row if arena is one else new_row(), None)
        tokens = arena.slate.widened("tokens", columns)
        tokens[0] = np.arange(tokens.shape[1])
        arena.slate.widened("quotas", columns)[0] = 7
        arena.slate.wide("memory", columns, 2)[0] = columns
    one.slate.limit[0], one.slate.top_p[0], one.slate.cuts[0] = 11, 0.5, True
    width = one.slate.tokens.shape[1]
    one.move(0, two)
    assert not one.rows
    assert two.rows[1] is row
    slate = two.slate
    assert (slate.limit[1], slate.top_p[1], slate.cuts[1]) == (11, 0.5, True)
    assert slate.tokens[1, :width].tolist() == list(range(width))
    assert set(slate.quotas[1].tolist()) == {7}, "the last quota holds for ever"
    assert slate.memory is not None
    assert set(slate.memory[1, :5].ravel().tolist()) == {5.0}
    two.move(1, one)
    assert one.slate.tokens[0, :width].tolist() == list(range(width))
