"""From the policies' word to block ids, and what the engine without a model makes of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from dlm_runtime.engines import THRESHOLD_OFF, FakeEngine, KeyValues, StepBatch, StepResult, block_ids, fake_manifest
from dlm_runtime.policies import Decoding, Line, Passes
from dlm_runtime.policies.passes import Sees
from dlm_runtime.policies.plain import run_line
from dlm_runtime.scheduler.together import write_together

MASK = 1


class Recorder(FakeEngine):
    """Notes the block ids and positions of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.block_ids: list[list[list[int]]] = []
        self.positions: list[list[list[int]]] = []

    def step(self, batch: StepBatch) -> StepResult:
        self.block_ids.append(batch.block_ids.tolist())
        self.positions.append(batch.position_ids.tolist())
        return super().step(batch)


class Once:
    """Runs one directive and ends its line."""

    def __init__(self, passes: Passes) -> None:
        self.passes = passes

    def decode(self, line: Line) -> Decoding:
        line.lay(6, MASK)
        yield self.passes
        line.extend([5])


def line_of() -> Line:
    return Line((5, 6, 7), 1, (2,), first_position=10, block_origin=-1)


def test_causal_rows_count_and_others_do_not() -> None:
    ids = block_ids([True, False], 4)
    assert ids.dtype == np.int64
    assert ids.tolist() == [[0, 1, 2, 3], [0, 0, 0, 0]]
    assert block_ids([False], 1).tolist() == block_ids([True], 1).tolist(), "a lone token sees itself either way"


KINDS: list[tuple[Passes, list[int]]] = [
    (Passes((1, 5), (1, 5), Sees.CAUSAL), [0, 1, 2, 3]),
    (Passes((1, 5), (1, 5), Sees.WHOLE), [0, 0, 0, 0]),
    (Passes((1, 5), (1, 5), Sees.WHOLE, causal_head=2), [0, 1, 2, 2]),
    (Passes((1, 6), (1, 6), Sees.BLOCKS, block_length=3), [0, 1, 1, 1, 2]),
    (Passes((3, 5), (3, 5), Sees.ECHO), [0, 1, -1, -2]),
]


@pytest.mark.parametrize(("asked", "ids"), KINDS)
@pytest.mark.parametrize("write", [run_line, lambda engine, policy, line: write_together(engine, [(policy, line)])])
def test_what_a_directive_lets_see(asked: Passes, ids: list[int], write: Callable[..., object]) -> None:
    engine = Recorder()
    write(engine, Once(asked), line_of())
    assert engine.block_ids == [[ids]]
    columns = list(range(*asked.query))
    assert engine.positions == [[[10 + column for column in (columns * 2 if asked.sees == Sees.ECHO else columns)]]]


def test_rows_of_a_batch_need_not_agree() -> None:
    engine = Recorder()
    write_together(engine, [(Once(asked), line_of()) for asked, _ in KINDS])
    ((*rows,),) = engine.block_ids
    for (_, ids), row in zip(KINDS, rows, strict=True):
        assert row[: len(ids)] == ids


def test_the_engine_without_a_model_reads_blocks() -> None:
    """Each of two blocks is guessed from what stands before it and in it, and knows nothing of what follows."""
    engine = FakeEngine(fake_manifest(), script=lambda token_ids: 10 + sum(token_ids) % 60, wrong_every=0)
    batch = batch_of([5, MASK, 7, MASK], [0, 0, 1, 1])
    assert engine.step(batch).sampled_ids.tolist() == [[5, 15, 7, 10 + (5 + MASK + 7) % 60]]
    batch = batch_of([5, MASK, 7, MASK], [0, 1, 2, 2])
    assert engine.step(batch).sampled_ids[0, 0] == 10 + 5, "a block of one known token says the next one"
    batch = batch_of([5, 6, MASK, MASK], [0, 1, -1, -2])
    assert engine.step(batch).sampled_ids[0, 2:].tolist() == [10, 15], "echoes see the tokens before their own"


def batch_of(ids: list[int], blocks: list[int]) -> StepBatch:
    length = len(ids)
    zeros = np.zeros(1, np.int64)
    return StepBatch(
        input_ids=np.array([ids]),
        position_ids=np.arange(length)[None],
        past_lengths=zeros,
        query_lengths=np.array([length]),
        block_ids=np.array([blocks]),
        past=KeyValues.zeros(fake_manifest(), 1, 0),
        window_start=zeros,
        allow_rows=np.zeros((1, length), np.int64),
        allow_table=np.zeros((1, 97), np.float32),
        quota=zeros,
        threshold=np.full(1, THRESHOLD_OFF, np.float32),
        temperature=np.zeros(1, np.float32),
        seed=zeros,
        step=zeros,
    )
