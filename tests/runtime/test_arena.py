"""The arena keeps every row's context while rows come, grow and go."""

from __future__ import annotations

import random
import weakref

import numpy as np
from dlm_runtime.engines import fake_manifest
from dlm_runtime.scheduler.arena import ContextArena
from dlm_runtime.scheduler.arenas import Arenas
from dlm_runtime.scheduler.row import Row
from dlm_runtime.scheduler.types import LineRequest


def new_row(tokens: int) -> Row:
    row = Row(LineRequest((1,)), "diffusion", lambda event: None, lambda: None)
    row.context_tokens = tokens
    return row


def test_random_life() -> None:
    rng = random.Random(1)
    values = np.random.default_rng(1)
    arena = ContextArena(fake_manifest())
    held: dict[Row, np.ndarray] = {}  # [layers, 2, Hkv, tokens, dh]
    for _ in range(600):
        choice = rng.random()
        if choice < 0.4 and len(held) < 70:
            context = values.normal(size=(1, 2, 1, rng.randrange(0, 90), 2)).astype(np.float32)
            row = new_row(context.shape[3])
            arena.join(row, context)
            held[row] = context
        elif choice < 0.7 and held:
            row = rng.choice(list(held))
            arena.leave(row)
            del held[row]
        elif held:
            length = rng.choice((1, 8))
            present = values.normal(size=(1, 2, len(held), 1, length, 2)).astype(np.float32)
            counts = [1] * len(held) if length == 1 else [rng.randrange(length + 1) for _ in held]
            rows = list(arena.rows)
            arena.append(present, counts)
            for place, (row, count) in enumerate(zip(rows, counts, strict=True)):
                held[row] = np.concatenate([held[row], present[:, :, place, :, :count]], axis=3)
        assert set(arena.rows) == set(held)
        past = arena.past
        assert past[0, 0].flags.c_contiguous or past.size == 0
        assert np.isfinite(past).all()
        for place, row in enumerate(arena.rows):
            assert row.context_tokens == held[row].shape[3]
            np.testing.assert_array_equal(past[:, :, place, :, : row.context_tokens], held[row])
            np.testing.assert_array_equal(arena.context(row), held[row])


def test_padding_of_a_long_row_is_given_up_when_nobody_is_left() -> None:
    arena = ContextArena(fake_manifest())
    for tokens, capacity in ((200, 224), (10, 32), (30, 32), (40, 64), (33, 64)):
        row = new_row(tokens)
        arena.join(row, np.zeros((1, 2, 1, tokens, 2), np.float32))
        assert arena.past.shape[4] == capacity
        arena.leave(row)


def test_an_arena_for_long_contexts_goes_with_its_last_row() -> None:
    arenas = Arenas(fake_manifest())
    rows = [new_row(tokens) for tokens in (40, 300, 900)]
    for row in rows:
        row.context = np.zeros((1, 2, 1, row.context_tokens, 2), np.float32)
        arenas.place(row)
    short, *long = list(arenas)
    assert [len(arena.rows) for arena in (short, *long)] == [1, 1, 1]
    dead = [weakref.ref(arena) for arena in long]
    arenas.remove(rows[1])
    long[1].leave(rows[2])  # as when a line ends in a step
    arenas.regroup(long[1])
    del long
    assert [one() for one in dead] == [None, None]
    assert arenas.rows == [rows[0]]
    arenas.remove(rows[0])
    assert len(arenas) == 0
    rows[0].context = np.zeros((1, 2, 1, 40, 2), np.float32)
    arenas.place(rows[0])
    assert next(iter(arenas)) is short
