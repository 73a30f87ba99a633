"""`dlm::ShapeLogits` in ONNX Runtime against its numpy reference, and against plain warpers written apart from both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
from dlm_kernels.unmask import ShapeInputs, shape_logits
from dlm_kernels.unmask.shaping import FILTERED_TOKENS
from onnx import TensorProto

DROPPED = np.float32(-1e30)
Shape = Callable[..., np.ndarray]
Floats = np.ndarray


def neutral(logits: Floats, allow_table: Floats | None = None) -> ShapeInputs:
    rows, window, vocab = logits.shape
    return ShapeInputs(
        logits=logits,
        allow_rows=np.zeros((rows, window), np.int64),
        allow_table=np.zeros((1, vocab), np.float32) if allow_table is None else allow_table,
        temperature=np.zeros(rows, np.float32),
        scale=np.ones(rows, np.float32),
        sample_top_k=np.zeros(rows, np.int64),
        sample_top_p=np.ones(rows, np.float32),
        repetition_penalty=np.ones(rows, np.float32),
        recent_ids=np.zeros((rows, 0), np.int64),
        guidance=np.zeros(rows, np.float32),
        guidance_rows=np.arange(rows),
    )


def random_inputs(seed: int, *, rows: int = 6, window: int = 5, vocab: int = 33, recent: int = 4) -> ShapeInputs:
    """Every row asks for some of it, and for nothing of the rest."""
    rng = np.random.default_rng(seed)

    def some(values: Floats, otherwise: float) -> Floats:
        return np.where(rng.random(rows) < 0.5, values, otherwise)

    table = np.where(rng.random((3, vocab)) < 0.3, -np.inf, 0).astype(np.float32)
    table[:, seed % vocab] = 0
    return ShapeInputs(
        logits=rng.normal(0, 3, (rows, window, vocab)).astype(np.float32),
        allow_rows=rng.integers(0, 3, (rows, window)),
        allow_table=table,
        temperature=some(rng.uniform(0.3, 2, rows), 0).astype(np.float32),
        scale=some(rng.uniform(0.3, 2, rows), 1).astype(np.float32),
        sample_top_k=some(rng.integers(1, vocab + 3, rows) * rng.choice([-1, 1], rows), 0).astype(np.int64),
        sample_top_p=some(rng.uniform(0.1, 0.99, rows), 1).astype(np.float32),
        repetition_penalty=some(rng.uniform(0.5, 2, rows), 1).astype(np.float32),
        recent_ids=rng.integers(-1, vocab, (rows, recent)),
        guidance=some(rng.uniform(0.5, 2, rows), 0).astype(np.float32),
        guidance_rows=rng.integers(0, rows, rows),
    )


def warped(inputs: ShapeInputs, row: int, place: int) -> Floats:
    """One position in the words of Hugging Face's processors, token by token in float64."""
    own, other = (inputs.logits[index, place].astype(np.float64) for index in (row, inputs.guidance_rows[row]))
    scores = other + (inputs.guidance[row] + 1) * (own - other)
    for token in {int(token) for token in inputs.recent_ids[row] if token >= 0}:
        scores[token] *= 1 / inputs.repetition_penalty[row] if scores[token] > 0 else inputs.repetition_penalty[row]
    scores *= inputs.scale[row]
    warm = (scores + inputs.allow_table[inputs.allow_rows[row, place]]) / (inputs.temperature[row] or 1)
    dropped: set[int] = set()
    order = sorted(range(len(warm)), key=lambda token: (-warm[token], token))
    if 0 < (top_k := abs(inputs.sample_top_k[row])) < len(order):
        least = warm[order[top_k - 1]]
        dropped |= {token for token in order if warm[token] < least}
    if inputs.sample_top_p[row] < 1:
        left = order if inputs.sample_top_k[row] < 0 else [token for token in order if token not in dropped]
        mass = np.exp(warm[left] - warm[left[0]])
        before = 0.0
        for token, share in zip(left, mass / mass.sum(), strict=True):
            if before > inputs.sample_top_p[row]:
                dropped.add(token)
            before += share
    scores[sorted(dropped)] = DROPPED
    return scores


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("vocab", [33, 257])
def test_everything_at_once(shape: Shape, seed: int, vocab: int) -> None:
    inputs = random_inputs(seed, vocab=vocab)
    found, reference = shape(inputs), shape_logits(inputs)
    np.testing.assert_allclose(found, reference, rtol=1e-5, atol=1e-5)
    for row, place in np.ndindex(*inputs.allow_rows.shape):
        allowed = np.isfinite(inputs.allow_table[inputs.allow_rows[row, place]])  # what is banned may be kept or not
        np.testing.assert_allclose(found[row, place][allowed], warped(inputs, row, place)[allowed], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_logits_in_half_precision(shape: Shape, kind: int) -> None:
    inputs = random_inputs(3)
    rounded = inputs.logits.astype(onnx.helper.tensor_dtype_to_np_dtype(kind)).astype(np.float32)
    np.testing.assert_allclose(shape(inputs, kind=kind), shape_logits(replace(inputs, logits=rounded)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("recent", [0, 3])
def test_who_asks_for_nothing_gets_the_logits_to_the_bit(shape: Shape, recent: int) -> None:
    logits = np.random.default_rng(0).normal(0, 5, (4, 3, 40)).astype(np.float32)
    inputs = replace(neutral(logits), recent_ids=np.tile(np.arange(recent), (4, 1)))
    np.testing.assert_array_equal(shape(inputs), logits)
    np.testing.assert_array_equal(shape_logits(inputs), logits)
    asking = {
        "guidance": np.array([0, 2, 0, 0], np.float32),
        "guidance_rows": np.array([0, 3, 2, 1]),
        "repetition_penalty": np.array([1, 1, 2, 1], np.float32),
        "sample_top_k": np.array([0, 0, 0, 2]),
    }
    found = shape(replace(inputs, **asking))
    np.testing.assert_array_equal(found[0], logits[0])
    assert (found[1] != logits[1]).any()


def one(logits: list[float], **changed: object) -> ShapeInputs:
    inputs = neutral(np.array([[logits]], np.float32))
    return replace(inputs, **changed)


def kept(shaped: Floats) -> list[int]:
    return np.flatnonzero(shaped[0, 0] > DROPPED).tolist()


def test_filters_by_hand(shape: Shape) -> None:
    logits = np.log([0.1, 0.4, 0.3, 0.2]).tolist()
    for top_k, expected in ((1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [0, 1, 2, 3]), (99, [0, 1, 2, 3])):
        assert kept(shape(one(logits, sample_top_k=np.array([top_k])))) == expected
    for top_p, expected in ((0.0, [1]), (0.39, [1]), (0.41, [1, 2]), (0.71, [1, 2, 3]), (0.91, [0, 1, 2, 3]), (-1, [1])):
        assert kept(shape(one(logits, sample_top_p=np.array([top_p], np.float32)))) == expected
    both = one(logits, sample_top_k=np.array([2]), sample_top_p=np.array([0.5], np.float32))  # 0.4 is 4/7 of what two tokens have
    assert kept(shape(both)) == [1]
    assert kept(shape(replace(both, sample_top_k=np.array([-2])))) == [1, 2]  # 0.4 of all
    assert kept(shape(replace(both, sample_top_k=np.array([-1])))) == [1]
    assert kept(shape(replace(both, sample_top_k=np.array([0])))) == [1, 2]
    assert kept(shape(one(logits, sample_top_k=np.array([-3])))) == [1, 2, 3]


def test_a_nucleus_is_that_of_the_temperature_and_of_allowed_tokens(shape: Shape) -> None:
    logits = np.log([0.1, 0.4, 0.3, 0.2]).tolist()
    half = np.array([0.5], np.float32)
    assert kept(shape(one(logits, sample_top_p=half))) == [1, 2]
    assert kept(shape(one(logits, sample_top_p=half, temperature=np.array([0.2], np.float32)))) == [1]
    assert kept(shape(one(logits, sample_top_p=half, temperature=np.array([9.0], np.float32)))) == [1, 2]
    hot = one(logits, sample_top_p=np.array([0.6], np.float32), temperature=np.array([9.0], np.float32))
    assert kept(shape(hot)) == [1, 2, 3]
    table = np.array([[0, -np.inf, 0, 0]], np.float32)
    assert kept(shape(one(logits, sample_top_p=np.array([0.45], np.float32)))) == [1, 2]
    assert kept(shape(one(logits, sample_top_p=np.array([0.45], np.float32), allow_table=table))) == [2]  # half of what is allowed
    assert 1 not in kept(shape(one(logits, sample_top_k=np.array([2]), allow_table=table)))


def test_ties_with_the_last_one_kept_stay(shape: Shape) -> None:
    assert kept(shape(one([1, 2, 2, 2, 0], sample_top_k=np.array([2])))) == [1, 2, 3]
    assert kept(shape(one([1, 1, 1, 1], sample_top_p=np.array([0.3], np.float32)))) == [0, 1, 2, 3]


def test_a_position_where_everything_is_banned_stays_free_of_nan(shape: Shape) -> None:
    table = np.full((1, 4), -np.inf, np.float32)
    shaped = shape(one([1, 2, 3, 4], allow_table=table, sample_top_k=np.array([2]), sample_top_p=np.array([0.5], np.float32)))
    assert np.isfinite(shaped).all()


def test_a_filter_looks_at_the_likeliest_only(shape: Shape) -> None:
    vocab = FILTERED_TOKENS + 50
    logits = np.random.default_rng(0).permutation(np.linspace(0, 1e-2, vocab)).astype(np.float32)
    wide = one(logits.tolist(), sample_top_p=np.array([0.999], np.float32))
    found = shape(wide)
    assert set(kept(found)) == set(np.argsort(-logits)[:FILTERED_TOKENS].tolist())
    np.testing.assert_array_equal(found, shape_logits(wide))
    assert len(kept(shape(replace(wide, sample_top_p=np.ones(1, np.float32))))) == vocab


def test_recent_ids_that_are_none_or_unknown_punish_nothing(shape: Shape) -> None:
    logits = [2.0, -2.0, 4.0, -4.0]
    ids = np.array([[0, 3, 0, -1, 9]])
    found = shape(one(logits, recent_ids=ids, repetition_penalty=np.array([2.0], np.float32)))
    assert found[0, 0].tolist() == [1.0, -2.0, 4.0, -8.0]


def test_guidance_is_that_of_the_other_row(shape: Shape) -> None:
    logits = np.array([[[1.0, 2.0]], [[3.0, -1.0]]], np.float32)
    found = shape(replace(neutral(logits), guidance=np.array([1.5, 0], np.float32), guidance_rows=np.array([1, 1])))
    np.testing.assert_allclose(found[0, 0], logits[1, 0] + 2.5 * (logits[0, 0] - logits[1, 0]))
    np.testing.assert_array_equal(found[1], logits[1])
