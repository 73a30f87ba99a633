"""`dlm::ParallelUnmask` as an ONNX function in ONNX Runtime against its numpy reference."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
from dlm_kernels.unmask import UnmaskInputs, UnmaskOutputs, parallel_unmask
from dlm_kernels.unmask.function import INPUTS, OUTPUTS, unmask_functions, unmask_node
from onnx import TensorProto, helper

MASK, TOP_K = 5, 4
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
SHAPES = {
    "logits": (FLOAT, "BWV"),
    "tokens": (INT64, "BW"),
    "live": (TensorProto.BOOL, "BW"),
    "positions": (INT64, "BW"),
    "allow_rows": (INT64, "BW"),
    "allow_table": (FLOAT, "GV"),
    "quota": (INT64, "B"),
    "threshold": (FLOAT, "B"),
    "temperature": (FLOAT, "B"),
    "seed": (INT64, "B"),
    "step": (INT64, "B"),
}
OUTPUT_SHAPES = {
    "canvas": (INT64, "BW"),
    "committed": (INT64, "B"),
    "sampled_ids": (INT64, "BW"),
    "confidence": (FLOAT, "BW"),
    "entropy": (FLOAT, "BW"),
    "top_ids": (INT64, "BWK"),
    "top_logprobs": (FLOAT, "BWK"),
}


def unmask_model(top_k: int = TOP_K) -> onnx.ModelProto:
    """A model of nothing but the one call."""
    values = [
        [helper.make_tensor_value_info(name, kind, list(shape)) for name, (kind, shape) in shapes.items()]
        for shapes in (SHAPES, OUTPUT_SHAPES)
    ]
    graph = helper.make_graph([unmask_node(INPUTS, OUTPUTS, mask_token_id=MASK, top_k=top_k)], "unmask", *values)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("dlm", 1)]
    return helper.make_model(graph, functions=unmask_functions(), opset_imports=opsets, ir_version=10)


@cache
def session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(unmask_model().SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_onnx(inputs: UnmaskInputs) -> UnmaskOutputs:
    return UnmaskOutputs(*(np.asarray(value) for value in session().run(list(OUTPUTS), {name: getattr(inputs, name) for name in INPUTS})))


def random_inputs(seed: int, *, rows: int = 3, window: int = 7, vocab: int = 40, temperature: float = 0.0) -> UnmaskInputs:
    rng = np.random.default_rng(seed)
    shape = (rows, window)
    allow_table = np.where(rng.random((3, vocab)) < 0.3, -np.inf, 0).astype(np.float32)
    allow_table[0] = 0
    return UnmaskInputs(
        logits=rng.normal(0, 3, (*shape, vocab)).astype(np.float32),
        tokens=np.where(rng.random(shape) < 0.6, MASK, rng.integers(0, vocab, shape)),
        live=rng.random(shape) < 0.8,
        positions=rng.integers(0, 5000, shape),
        allow_rows=rng.integers(0, 3, shape),
        allow_table=allow_table,
        quota=rng.integers(0, 4, rows),
        threshold=rng.random(rows).astype(np.float32),
        temperature=np.full(rows, temperature, np.float32),
        seed=rng.integers(-(2**63), 2**63 - 1, rows),
        step=rng.integers(0, 40, rows),
    )


def assert_same(inputs: UnmaskInputs) -> UnmaskOutputs:
    """Both give the same whole numbers, and floats within 1e-5."""
    found, expected = run_onnx(inputs), parallel_unmask(inputs, mask_token_id=MASK, top_k=TOP_K)
    for field in fields(UnmaskOutputs):
        ours, theirs = getattr(found, field.name), getattr(expected, field.name)
        assert ours.shape == theirs.shape, field.name
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5, err_msg=field.name)
    return found


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_random_inputs(seed: int, temperature: float) -> None:
    assert_same(random_inputs(seed, temperature=temperature))


@pytest.mark.parametrize(("rows", "window", "vocab"), [(1, 1, 6), (1, 33, 7), (5, 1, 301), (2, 32, 4)])
def test_odd_shapes(rows: int, window: int, vocab: int) -> None:
    assert_same(random_inputs(1, rows=rows, window=window, vocab=vocab))


def test_model_passes_the_onnx_checker() -> None:
    onnx.checker.check_model(unmask_model(), full_check=True)


def test_node_refuses_a_wrong_number_of_values() -> None:
    with pytest.raises(ValueError, match="takes 11 inputs and 7 outputs, got 2 and 7"):
        unmask_node(INPUTS[:2], OUTPUTS, mask_token_id=MASK, top_k=TOP_K)


def test_equal_tokens_go_to_the_lower_id_and_equal_positions_to_the_lower_one() -> None:
    inputs = random_inputs(3)
    inputs = replace(
        inputs,
        logits=np.zeros_like(inputs.logits),
        tokens=np.full_like(inputs.tokens, MASK),
        live=np.ones_like(inputs.live),
        allow_rows=np.zeros_like(inputs.allow_rows),
        quota=np.array([1, 2, 3]),
        threshold=np.full(3, 1.1, np.float32),
    )
    outputs = assert_same(inputs)
    assert (outputs.sampled_ids == 0).all()
    assert (outputs.top_ids == np.arange(TOP_K)).all()
    assert [(row != MASK).nonzero()[0].tolist() for row in outputs.canvas] == [[0], [0, 1], [0, 1, 2]]


def test_everything_masked_and_sure_commits_everything() -> None:
    inputs = random_inputs(4)
    everything = replace(
        inputs, tokens=np.full_like(inputs.tokens, MASK), live=np.ones_like(inputs.live), threshold=np.zeros_like(inputs.threshold)
    )
    outputs = assert_same(everything)
    assert (outputs.committed == 7).all()
    assert (outputs.canvas == outputs.sampled_ids).all()


def test_nothing_masked_commits_nothing_but_still_measures() -> None:
    inputs = random_inputs(5)
    outputs = assert_same(replace(inputs, tokens=np.where(inputs.tokens == MASK, MASK + 1, inputs.tokens)))
    assert (outputs.committed == 0).all()
    assert (outputs.confidence > 0).all()


def test_padding_is_never_committed() -> None:
    inputs = random_inputs(6)
    dead = replace(inputs, tokens=np.full_like(inputs.tokens, MASK), live=np.zeros_like(inputs.live), quota=np.full(3, 7))
    outputs = assert_same(dead)
    assert (outputs.canvas == MASK).all()


def test_quota_beyond_the_masks_and_quota_zero() -> None:
    inputs = random_inputs(7)
    outputs = assert_same(replace(inputs, quota=np.array([0, 100, 100]), threshold=np.full(3, 1.1, np.float32)))
    eligible = ((inputs.tokens == MASK) & inputs.live).sum(-1)
    assert outputs.committed.tolist() == [0, eligible[1], eligible[2]]


def test_a_threshold_that_is_met_exactly_commits() -> None:
    inputs = random_inputs(8, rows=1, window=1, vocab=8)
    one = replace(
        inputs,
        logits=np.zeros_like(inputs.logits),
        tokens=np.full((1, 1), MASK),
        live=np.ones((1, 1), bool),
        allow_rows=np.zeros((1, 1), np.int64),
        quota=np.zeros(1, np.int64),
        threshold=np.array([0.125], np.float32),
    )
    assert assert_same(one).committed.tolist() == [1]


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_banned_tokens_are_never_produced(temperature: float) -> None:
    inputs = random_inputs(9, temperature=temperature)
    banned = np.isinf(inputs.allow_table[inputs.allow_rows])
    outputs = assert_same(replace(inputs, logits=inputs.logits + 50 * banned.astype(np.float32)))
    assert not np.take_along_axis(banned, outputs.sampled_ids[..., None], -1).any()
    assert np.isfinite(outputs.entropy).all()


def test_one_allowed_token_is_certain() -> None:
    inputs = random_inputs(10)
    table = np.full((3, 40), -np.inf, np.float32)
    table[:, 17] = 0
    outputs = assert_same(replace(inputs, allow_table=table))
    assert (outputs.sampled_ids == 17).all()
    assert (outputs.confidence == 1).all()
    np.testing.assert_allclose(outputs.entropy, 0, atol=1e-5)
    assert np.isneginf(outputs.top_logprobs[..., 1:]).all()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_position_where_everything_is_banned_has_no_confidence_and_no_nan(temperature: float) -> None:
    inputs = random_inputs(11, temperature=temperature)
    outputs = run_onnx(replace(inputs, allow_table=np.full((3, 40), -np.inf, np.float32)))
    assert (outputs.confidence == 0).all()
    assert (outputs.entropy == 0).all()
    assert np.isneginf(outputs.top_logprobs).all()
    assert (outputs.sampled_ids == 0).all()


def row_of(inputs: UnmaskInputs, row: int) -> UnmaskInputs:
    """One row alone."""
    return UnmaskInputs(
        **{f.name: getattr(inputs, f.name)[row : row + 1] if f.name != "allow_table" else inputs.allow_table for f in fields(inputs)}
    )


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    """Same decisions alone and among others; sums may round differently."""
    inputs = replace(random_inputs(12, rows=6), temperature=np.array([0, 0.8, 0, 1.3, 0.2, 0], np.float32))
    together = run_onnx(inputs)
    for row in range(6):
        alone = run_onnx(row_of(inputs, row))
        for field in fields(UnmaskOutputs):
            ours, theirs = getattr(alone, field.name)[0], getattr(together, field.name)[row]
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6 if ours.dtype == np.float32 else 0, err_msg=field.name)


def test_draws_follow_the_distribution() -> None:
    """Chi-square over 4096 draws from six tokens at a temperature, compared with softmax(z / T)."""
    draws, temperature = 4096, 0.8
    logits = np.array([0.0, 1.0, -1.0, 2.0, 0.5, -0.5], np.float32)
    shape = (draws // 32, 32)
    inputs = UnmaskInputs(
        logits=np.broadcast_to(logits, (*shape, 6)).copy(),
        tokens=np.full(shape, MASK),
        live=np.ones(shape, bool),
        positions=np.broadcast_to(np.arange(32), shape).copy(),
        allow_rows=np.zeros(shape, np.int64),
        allow_table=np.zeros((1, 6), np.float32),
        quota=np.ones(shape[0], np.int64),
        threshold=np.ones(shape[0], np.float32),
        temperature=np.full(shape[0], temperature, np.float32),
        seed=np.arange(shape[0]),
        step=np.zeros(shape[0], np.int64),
    )
    expected = np.exp(logits / temperature) / np.exp(logits / temperature).sum() * draws
    for outputs in (run_onnx(inputs), run_onnx(replace(inputs, seed=inputs.seed * 0 + 7, step=np.arange(shape[0])))):
        counts = np.bincount(outputs.sampled_ids.ravel(), minlength=6)
        assert ((counts - expected) ** 2 / expected).sum() < 20.5  # 5 degrees of freedom, p = 0.001
