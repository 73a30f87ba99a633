"""`dlm::ParallelUnmask` as an ONNX function in ONNX Runtime against its numpy reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import onnx
import pytest
from dlm_kernels.unmask import UnmaskInputs, UnmaskOutputs, parallel_unmask
from dlm_kernels.unmask.function import INPUTS, OUTPUTS, unmask_node
from onnx import TensorProto

MASK, TOP_K = 5, 4
Unmask = Callable[..., UnmaskOutputs]


def random_inputs(seed: int, *, rows: int = 3, window: int = 7, vocab: int = 40, temperature: float = 0.0) -> UnmaskInputs:
    """Neutral but for quota and threshold."""
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
        factor=np.zeros(rows, np.float32),
        measure=np.zeros(rows, np.int64),
        temperature=np.full(rows, temperature, np.float32),
        rank_temperature=np.zeros(rows, np.float32),
        seed=rng.integers(-(2**63), 2**63 - 1, rows),
        step=rng.integers(0, 40, rows),
    )


def with_every_rule(inputs: UnmaskInputs, seed: int) -> UnmaskInputs:
    """Each row with a measure, a factor and a rank temperature of its own, some of them neutral."""
    rng, rows = np.random.default_rng(seed), len(inputs.quota)
    return replace(
        inputs,
        factor=np.where(rng.random(rows) < 0.3, 0, rng.uniform(0.2, 3, rows)).astype(np.float32),
        measure=rng.integers(0, 3, rows),
        rank_temperature=np.where(rng.random(rows) < 0.5, 0, rng.uniform(0.05, 2, rows)).astype(np.float32),
        threshold=rng.uniform(-1, 1.2, rows).astype(np.float32),
    )


@pytest.fixture
def assert_same(unmask: Unmask) -> Unmask:
    """Both give the same whole numbers, and floats within 1e-5."""

    def run(inputs: UnmaskInputs, *, top_k: int = TOP_K, kind: int = TensorProto.FLOAT) -> UnmaskOutputs:
        found = unmask(inputs, top_k=top_k, kind=kind)
        rounded = inputs.logits.astype(onnx.helper.tensor_dtype_to_np_dtype(kind)).astype(np.float32)
        expected = parallel_unmask(replace(inputs, logits=rounded), mask_token_id=MASK, top_k=top_k)
        for field in fields(UnmaskOutputs):
            ours, theirs = getattr(found, field.name), getattr(expected, field.name)
            assert ours.shape == theirs.shape, field.name
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5, err_msg=field.name)
        return found

    return run


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_random_inputs(assert_same: Unmask, seed: int, temperature: float) -> None:
    inputs = random_inputs(seed, rows=5, temperature=temperature)
    assert_same(inputs)
    assert_same(with_every_rule(inputs, seed))


@pytest.mark.parametrize(("rows", "window", "vocab"), [(1, 1, 6), (1, 33, 33), (5, 1, 301), (2, 32, 257), (4, 9, 4)])
def test_odd_shapes(assert_same: Unmask, rows: int, window: int, vocab: int) -> None:
    inputs = random_inputs(1, rows=rows, window=window, vocab=vocab)
    assert_same(inputs)
    assert_same(with_every_rule(inputs, 1))


@pytest.mark.parametrize("vocab", [1, 2])
@pytest.mark.parametrize("measure", [0, 1, 2])
def test_vocabularies_of_one_and_two(assert_same: Unmask, vocab: int, measure: int) -> None:
    inputs = replace(random_inputs(2, vocab=vocab), measure=np.full(3, measure))
    outputs = assert_same(inputs, top_k=1)
    if vocab == 1:
        allowed = inputs.allow_table[inputs.allow_rows][..., 0] == 0
        assert (outputs.confidence == np.where(allowed, measure != 2, 0)).all()


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
@pytest.mark.parametrize("vocab", [33, 257])
def test_logits_in_half_precision(assert_same: Unmask, kind: int, vocab: int) -> None:
    inputs = random_inputs(13, vocab=vocab, temperature=0.7)
    assert_same(inputs, kind=kind)
    assert_same(with_every_rule(inputs, 2), kind=kind)


def test_model_passes_the_onnx_checker(decision_model: Callable[..., onnx.ModelProto]) -> None:
    onnx.checker.check_model(decision_model(shape=True, unmask=True), full_check=True)


def test_node_refuses_a_wrong_number_of_values() -> None:
    with pytest.raises(ValueError, match="takes 14 inputs and 7 outputs, got 2 and 7"):
        unmask_node(INPUTS[:2], OUTPUTS, mask_token_id=MASK, top_k=TOP_K)


def test_equal_tokens_go_to_the_lower_id_and_equal_positions_to_the_lower_one(assert_same: Unmask) -> None:
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


def test_everything_masked_and_sure_commits_everything(assert_same: Unmask) -> None:
    inputs = random_inputs(4)
    everything = replace(
        inputs, tokens=np.full_like(inputs.tokens, MASK), live=np.ones_like(inputs.live), threshold=np.zeros_like(inputs.threshold)
    )
    outputs = assert_same(everything)
    assert (outputs.committed == 7).all()
    assert (outputs.canvas == outputs.sampled_ids).all()


def test_nothing_masked_commits_nothing_but_still_measures(assert_same: Unmask) -> None:
    inputs = random_inputs(5)
    outputs = assert_same(replace(inputs, tokens=np.where(inputs.tokens == MASK, MASK + 1, inputs.tokens)))
    assert (outputs.committed == 0).all()
    assert (outputs.confidence > 0).all()


def test_padding_is_never_committed(assert_same: Unmask) -> None:
    inputs = random_inputs(6)
    dead = replace(inputs, tokens=np.full_like(inputs.tokens, MASK), live=np.zeros_like(inputs.live), quota=np.full(3, 7))
    outputs = assert_same(dead)
    assert (outputs.canvas == MASK).all()


def test_quota_beyond_the_masks_and_quota_zero(assert_same: Unmask) -> None:
    inputs = random_inputs(7)
    outputs = assert_same(replace(inputs, quota=np.array([0, 100, 100]), threshold=np.full(3, 1.1, np.float32)))
    eligible = ((inputs.tokens == MASK) & inputs.live).sum(-1)
    assert outputs.committed.tolist() == [0, eligible[1], eligible[2]]


def test_a_threshold_that_is_met_exactly_commits(assert_same: Unmask) -> None:
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
def test_banned_tokens_are_never_produced(assert_same: Unmask, temperature: float) -> None:
    inputs = random_inputs(9, temperature=temperature)
    banned = np.isinf(inputs.allow_table[inputs.allow_rows])
    outputs = assert_same(replace(inputs, logits=inputs.logits + 50 * banned.astype(np.float32)))
    assert not np.take_along_axis(banned, outputs.sampled_ids[..., None], -1).any()
    assert np.isfinite(outputs.entropy).all()


def test_one_allowed_token_is_certain(assert_same: Unmask) -> None:
    inputs = random_inputs(10)
    table = np.full((3, 40), -np.inf, np.float32)
    table[:, 17] = 0
    outputs = assert_same(replace(inputs, allow_table=table))
    assert (outputs.sampled_ids == 17).all()
    assert (outputs.confidence == 1).all()
    np.testing.assert_allclose(outputs.entropy, 0, atol=1e-5)
    assert np.isneginf(outputs.top_logprobs[..., 1:]).all()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_position_where_everything_is_banned_has_no_confidence_and_no_nan(unmask: Unmask, temperature: float) -> None:
    inputs = random_inputs(11, temperature=temperature)
    outputs = unmask(replace(inputs, allow_table=np.full((3, 40), -np.inf, np.float32)))
    assert (outputs.confidence == 0).all()
    assert (outputs.entropy == 0).all()
    assert np.isneginf(outputs.top_logprobs).all()
    assert (outputs.sampled_ids == 0).all()


@pytest.mark.parametrize("measure", [0, 1, 2])
def test_logits_of_minus_infinity_are_banned(assert_same: Unmask, measure: int) -> None:
    inputs = random_inputs(31)
    logits = inputs.logits.copy()
    logits[:, ::2, 3:] = -np.inf
    logits[1, 1] = -np.inf  # nothing is left
    found = assert_same(replace(inputs, logits=logits, measure=np.full(3, measure)))
    assert np.isfinite(found.confidence).all()
    assert np.isfinite(found.entropy).all()


@pytest.mark.parametrize("measure", [0, 1, 2])
def test_equal_positions_tie_wherever_they_stand(unmask: Unmask, measure: int) -> None:
    """Sums over rows of odd length may round differently from row to row; none may decide."""
    inputs = random_inputs(32, rows=2, window=40, vocab=4095)
    logits = np.broadcast_to(inputs.logits[:, :1], inputs.logits.shape).copy()
    free = np.zeros_like(inputs.allow_rows)
    tokens = np.full_like(inputs.tokens, MASK)
    live, measures, quota = np.ones_like(inputs.live), np.full(2, measure), np.array([1, 3])
    found = unmask(replace(inputs, logits=logits, allow_rows=free, tokens=tokens, live=live, measure=measures, quota=quota))
    assert [np.flatnonzero(row != MASK).tolist() for row in found.canvas] == [[0], [0, 1, 2]]


def row_of(inputs: UnmaskInputs, row: int) -> UnmaskInputs:
    """One row alone."""
    return UnmaskInputs(
        **{f.name: getattr(inputs, f.name)[row : row + 1] if f.name != "allow_table" else inputs.allow_table for f in fields(inputs)}
    )


def test_a_row_does_not_depend_on_its_neighbours(unmask: Unmask) -> None:
    """Same decisions alone and among others; sums may round differently."""
    inputs = replace(random_inputs(12, rows=6), temperature=np.array([0, 0.8, 0, 1.3, 0.2, 0], np.float32))
    together = unmask(inputs)
    for row in range(6):
        alone = unmask(row_of(inputs, row))
        for field in fields(UnmaskOutputs):
            ours, theirs = getattr(alone, field.name)[0], getattr(together, field.name)[row]
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6 if ours.dtype == np.float32 else 0, err_msg=field.name)
