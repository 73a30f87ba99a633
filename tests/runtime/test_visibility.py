"""From the policies' word to block ids, and what the engine without a model makes of them."""

from __future__ import annotations

import numpy as np
from dlm_runtime.engines import FakeEngine, StepBatch, block_ids, fake_manifest
from dlm_runtime.policies import Forward
from dlm_runtime.scheduler.assemble import assemble
from dlm_runtime.scheduler.row import Row
from dlm_runtime.scheduler.types import LineRequest

MASK = 1


def step_of(*forwards: Forward) -> StepBatch:
    rows = [Row(LineRequest((1,)), "diffusion", lambda event: None, lambda: None) for _ in forwards]
    return assemble(rows, forwards, np.zeros((1, 2, len(rows), 1, 0, 2), np.float32), np.zeros((1, 97), np.float32), 0)


def test_causal_rows_count_and_others_do_not() -> None:
    ids = block_ids([True, False], 4)
    assert ids.dtype == np.int64
    assert ids.tolist() == [[0, 1, 2, 3], [0, 0, 0, 0]]
    assert block_ids([False], 1).tolist() == block_ids([True], 1).tolist(), "a lone token sees itself either way"


def test_rows_of_a_batch_need_not_agree() -> None:
    batch = step_of(Forward([5, 6], True, 0, 1), Forward([5, MASK, MASK], False, 0, 3))
    assert batch.block_ids.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert batch.block_ids.flags.c_contiguous
    assert batch.query_lengths.tolist() == [2, 3]


def test_the_engine_without_a_model_reads_blocks() -> None:
    """Each of two blocks is guessed from what stands before it and in it, and knows nothing of what follows."""
    engine = FakeEngine(fake_manifest(), script=lambda token_ids: 10 + sum(token_ids) % 60, wrong_every=0)
    batch = step_of(Forward([5, MASK, 7, MASK], False, 0, 4))
    batch.block_ids = np.array([[0, 0, 1, 1]])
    assert engine.step(batch).sampled_ids.tolist() == [[5, 15, 7, 10 + (5 + MASK + 7) % 60]]
    batch.block_ids = np.array([[0, 1, 2, 2]])
    assert engine.step(batch).sampled_ids[0, 0] == 10 + 5, "a block of one known token says the next one"
