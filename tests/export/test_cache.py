"""What stands in the cache is what would have been computed anew: block by block, against everything at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from dlm_export.verify.cases import Case, Row
from dlm_export.verify.session import Past, StepAnswer, StepSession, presents
from dlm_runtime.bundle import Bundle
from numpy.typing import NDArray

BLOCK_CAUSAL = ["sdar", "sdar_moe", "llada2", "llada21", "fast_dllm_v2", "a2d_qwen3", "a2d_qwen2", "a2d_llama", "bd3lm"]
CAUSAL = ["nemotron_labs_diffusion"]
NOTHING = np.empty(0, np.int64)
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


def session_of(members: Callable[[str], Any], name: str) -> StepSession:
    return StepSession(Bundle.load(members(name).bundle))


def step(session: StepSession, ids: Ints, block_ids: Ints, past: Past = ()) -> StepAnswer:
    """One row; what its past consists of is known by keys and values alone."""
    size = past[0][0].shape[1] if past else 0
    return session.answer(Case("cache", (Row(np.zeros(size, np.int64), ids, block_ids),)), [past], np.random.default_rng(len(ids)))


def joined(past: Past, more: Past) -> Past:
    """Columns side by side."""
    if not past:
        return more
    return [(np.concatenate((k, k2), 1), np.concatenate((v, v2), 1)) for (k, v), (k2, v2) in zip(past, more, strict=True)]


def run_cut(session: StepSession, ids: Ints, block_ids: Ints, cuts: list[int]) -> tuple[Floats, Past]:
    """Run the pieces between `cuts` one after the other, each against the cache of those before: logits [n, V] and the cache."""
    past: Past = ()
    logits: list[Floats] = []
    for start, stop in zip([0, *cuts], [*cuts, len(ids)], strict=True):
        answer = step(session, ids[start:stop], block_ids[start:stop], past)
        logits.append(answer.outputs["logits"][0])
        past = joined(past, presents(answer, session.manifest.layers, 0))
    return np.concatenate(logits), past


def assert_cuts_change_nothing(session: StepSession, ids: Ints, block_ids: Ints, cuts: list[int]) -> None:
    """Logits, keys and values."""
    whole = step(session, ids, block_ids)
    logits, past = run_cut(session, ids, block_ids, cuts)
    np.testing.assert_allclose(logits, whole.outputs["logits"][0], rtol=0, atol=5e-5)
    for pair, expected in zip(past, presents(whole, session.manifest.layers, 0), strict=True):
        for found, array in zip(pair, expected, strict=True):
            np.testing.assert_allclose(found, array, rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", BLOCK_CAUSAL)
@pytest.mark.parametrize("length", [1, 3, 4, 8])
def test_blocks_from_the_cache_equal_the_uncached_pass(members: Callable[[str], Any], name: str, length: int) -> None:
    """Three blocks and a piece of a fourth, the last ones half masked, of the length the checkpoint was made for and of others."""
    session, rng = session_of(members, name), np.random.default_rng(length)
    size = 3 * length + max(length // 2, 1)
    ids = rng.integers(0, session.manifest.vocab_size, size)
    ids[2 * length :: 2] = session.manifest.mask_token_id
    assert_cuts_change_nothing(session, ids, np.arange(size) // length, [length, 2 * length, 3 * length])


@pytest.mark.parametrize("name", BLOCK_CAUSAL)
def test_several_blocks_may_enter_the_cache_at_once(members: Callable[[str], Any], name: str) -> None:
    """Two blocks in one step, then three, though blocks are of unequal length."""
    session, rng = session_of(members, name), np.random.default_rng(3)
    ids, block_ids = rng.integers(0, session.manifest.vocab_size, 17), np.repeat(np.arange(6), (4, 2, 1, 5, 3, 2))
    assert_cuts_change_nothing(session, ids, block_ids, [6, 15])


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("cuts", [[1], [5, 6], [4, 8, 12], list(range(1, 20))])
def test_causal_context_may_be_cut_anywhere(members: Callable[[str], Any], name: str, cuts: list[int]) -> None:
    session = session_of(members, name)
    ids = np.random.default_rng(len(cuts)).integers(0, session.manifest.vocab_size, 20)
    assert_cuts_change_nothing(session, ids, np.arange(20), cuts)


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("length", [1, 3, 8])
def test_a_block_that_sees_itself_after_a_causal_prefix(members: Callable[[str], Any], name: str, length: int) -> None:
    session = session_of(members, name)
    ids = np.random.default_rng(length).integers(0, session.manifest.vocab_size, 11 + length)
    ids[12::2] = session.manifest.mask_token_id
    assert_cuts_change_nothing(session, ids, np.minimum(np.arange(11 + length), 11), [7, 11])


@pytest.mark.parametrize("name", ["sdar", "llada2"])
def test_it_matters_what_the_cache_holds(members: Callable[[str], Any], name: str) -> None:
    """So that the tests above cannot pass on a past that nobody looks at."""
    session = session_of(members, name)
    ids = np.random.default_rng(8).integers(0, session.manifest.vocab_size, 8)
    _, past = run_cut(session, ids[:4], np.zeros(4, np.int64), [])
    right, wrong = (
        step(session, ids[4:], np.zeros(4, np.int64), kept).outputs["logits"]
        for kept in (past, [(key[:, ::-1], value) for key, value in past])
    )
    assert np.abs(right - wrong).max() > 0.01
