"""CUDA graphs: captured when a shape comes again, replayed with new contents, dropped when memory moves, and given up out loud."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dlm_runtime.engines.native import NativeEngine, runner
from dlm_runtime.engines.native.runner import CAPTURE_AT


def launches(card) -> int:
    return len(card.cuda.calls("cudaGraphLaunch"))


def test_a_shape_that_comes_again_is_captured_once_and_replayed(card, native, onnx_engine, make_batch, assert_same) -> None:
    past = make_batch().past  # one arena: the past stays where it is
    for seed in range(CAPTURE_AT + 3):
        batch = make_batch(seed=seed, past=20)
        batch.past = past
        assert_same(native.step(batch), onnx_engine.step(batch))
    assert native.graphs == "1 captured"
    assert len(card.cuda.calls("cudaStreamBeginCapture")) == 1
    assert launches(card) == 3
    assert [context.eager for context in card.trt.contexts] == [False, True]


def test_a_replay_reads_what_is_new(card, native, onnx_engine, make_batch, assert_same) -> None:
    """Past, table and small inputs all change between two launches of the same graph."""
    first = make_batch()
    for _ in range(CAPTURE_AT):
        native.step(first)
    for seed in (1, 2):
        batch = make_batch(seed=seed)
        first.past.put(batch.past)
        again = replace(batch, past=first.past)
        assert_same(native.step(again), onnx_engine.step(again))
    assert launches(card) == 2


def test_other_shapes_between_do_not_disturb_a_graph(card, native, onnx_engine, make_batch, assert_same) -> None:
    one, other = make_batch(), make_batch(rows=2, length=5, past=20, seed=3)
    for _ in range(CAPTURE_AT + 2):
        for batch in (one, other, make_batch(rows=1, length=3, window=1, seed=9)):
            assert_same(native.step(batch), onnx_engine.step(batch))
    assert launches(card) >= 4


def test_memory_that_moves_takes_the_graphs_with_it(card, native, onnx_engine, make_batch, assert_same) -> None:
    small = make_batch()
    for _ in range(CAPTURE_AT):
        native.step(small)
    assert native.graphs == "1 captured"
    native.step(make_batch(rows=8, length=16, past=90, window=16))
    assert native.graphs == "0 captured"
    assert not card.cuda.graphs, "they are destroyed, not only forgotten"
    before = launches(card)
    assert_same(native.step(small), onnx_engine.step(small))
    assert launches(card) == before


def test_only_so_many_graphs_are_kept(card, native, make_batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "KEPT_GRAPHS", 2)
    native.step(make_batch(rows=8, length=16, past=40, window=16))
    batches = [make_batch(rows=rows, past=20, past_version=rows) for rows in (1, 2, 3)]
    for batch in batches:
        native.step(batch)  # now every past has its place, and no memory moves any more
    for batch in batches:
        for _ in range(CAPTURE_AT):
            native.step(batch)
    assert native.graphs == "2 captured"
    assert len(card.cuda.graphs) == 2
    before = launches(card)
    native.step(batches[0])  # the oldest one is gone
    assert launches(card) == before
    native.step(batches[2])
    assert launches(card) == before + 1


def test_a_plan_that_cannot_be_captured_is_launched_plainly_and_says_so(card, native, onnx_engine, make_batch, assert_same, caplog) -> None:
    card.trt.capturable = False
    batch = make_batch()
    for _ in range(2 * CAPTURE_AT):
        assert_same(native.step(batch), onnx_engine.step(batch))
    assert native.graphs.startswith("off: TensorRT says that the plan cannot be captured")
    assert caplog.text.count("CUDA graphs are off for this plan") == 1
    assert not card.cuda.calls("cudaStreamBeginCapture")


@pytest.mark.parametrize("failing", ["cudaStreamBeginCapture", "cudaGraphInstantiate", "cudaStreamEndCapture", "enqueue"])
def test_a_capture_that_fails_costs_the_graphs_and_not_the_step(
    card, native, onnx_engine, make_batch, assert_same, caplog, failing: str
) -> None:
    if failing == "enqueue":
        card.trt.refusing.add("capture")
    else:
        card.cuda.failing[failing] = 901
    batch = make_batch()
    for _ in range(2 * CAPTURE_AT):
        assert_same(native.step(batch), onnx_engine.step(batch))
    assert native.graphs.startswith("off: ")
    assert caplog.text.count("CUDA graphs are off for this plan") == 1
    assert card.cuda.recording is None
    assert not card.cuda.graphs


def test_graphs_can_be_switched_off(card, planned, make_batch) -> None:
    engine = NativeEngine(planned, graphs=False)
    for _ in range(2 * CAPTURE_AT):
        engine.step(make_batch())
    assert engine.graphs == "off: they are switched off"
    assert not card.cuda.calls("cudaStreamBeginCapture")
    engine.close()


def test_two_pasts_of_one_shape_are_told_apart(card, native, onnx_engine, make_batch, assert_same) -> None:
    """Plainly at first, then by two graphs."""
    batches = [make_batch(seed=seed, past_version=seed) for seed in (1, 2)]
    for _ in range(CAPTURE_AT + 3):
        for batch in batches:
            assert_same(native.step(batch), onnx_engine.step(batch))
    assert native.graphs == "2 captured"
