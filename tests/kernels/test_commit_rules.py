"""Which masked positions are filled in: every rule on confidences made by hand, and against plain loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from dlm_kernels.unmask import UnmaskInputs, UnmaskOutputs

MASK, OFF = 5, 2.0
Unmask = Callable[..., UnmaskOutputs]


def sure_of(confidences: Sequence[float], *, measure: int = 0, **changed: object) -> UnmaskInputs:
    """One row whose position i is filled with token 0 with that probability; of the five other tokens the first gets the rest."""
    chance = np.array([confidences], np.float32)
    window = chance.shape[1]
    logits = np.full((1, window, 6), -80, np.float32)
    logits[..., 0], logits[..., 1] = np.log(chance), np.log(np.maximum(1 - chance, 1e-30))
    inputs = UnmaskInputs(
        logits=logits,
        tokens=np.full((1, window), MASK),
        live=np.ones((1, window), bool),
        positions=np.arange(window)[None],
        allow_rows=np.zeros((1, window), np.int64),
        allow_table=np.zeros((1, 6), np.float32),
        quota=np.zeros(1, np.int64),
        threshold=np.full(1, OFF, np.float32),
        factor=np.zeros(1, np.float32),
        measure=np.full(1, measure),
        temperature=np.zeros(1, np.float32),
        rank_temperature=np.zeros(1, np.float32),
        seed=np.full(1, 3),
        step=np.ones(1, np.int64),
    )
    return replace(inputs, **changed)


def filled(outputs: UnmaskOutputs, row: int = 0) -> list[int]:
    """Positions that were committed."""
    return np.flatnonzero(outputs.canvas[row] != MASK).tolist()


def test_measures_by_hand(unmask: Unmask) -> None:
    chances = [0.6, 0.9, 0.75]
    rest = 1 - np.array(chances)
    entropy = -(chances * np.log(chances) + rest * np.log(rest))
    for measure, expected in enumerate((chances, chances - rest, -entropy)):
        outputs = unmask(sure_of(chances, measure=measure))
        np.testing.assert_allclose(outputs.confidence[0], expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(outputs.entropy[0], entropy, rtol=0, atol=1e-6)


def test_a_margin_is_that_of_the_two_likeliest_whatever_was_drawn(unmask: Unmask) -> None:
    drawn = unmask(sure_of([0.6] * 200, measure=1, temperature=np.full(1, 3.0, np.float32)))
    assert len(np.unique(drawn.sampled_ids)) > 1
    np.testing.assert_allclose(drawn.confidence, 0.2, rtol=0, atol=1e-6)


@pytest.mark.parametrize("measure", [0, 1, 2])
def test_nothing_reaches_the_threshold_that_is_off(unmask: Unmask, measure: int) -> None:
    assert filled(unmask(sure_of([1.0, 0.999], measure=measure))) == []


@pytest.mark.parametrize("measure", [0, 1, 2])
def test_quota_takes_the_surest_by_every_measure(unmask: Unmask, measure: int) -> None:
    inputs = sure_of([0.6, 0.9, 0.75, 0.8], measure=measure, quota=np.array([2]))
    assert filled(unmask(inputs)) == [1, 3]
    padded = replace(inputs, live=np.array([[True, False, True, False]]), quota=np.array([1]))
    assert filled(unmask(padded)) == [2]
    assert filled(unmask(replace(padded, quota=np.array([4])))) == [0, 2]


def test_a_strict_threshold_is_the_next_number(unmask: Unmask) -> None:
    half = np.array([0.5], np.float32)
    inputs = replace(sure_of([0.5]), logits=np.array([[[0.0, 0.0, -80, -80, -80, -80]]], np.float32))
    assert unmask(inputs).confidence.tolist() == [[0.5]]
    assert filled(unmask(replace(inputs, threshold=half))) == [0]
    assert filled(unmask(replace(inputs, threshold=np.nextafter(half, np.float32(np.inf))))) == []


def by_factor(confidences: Sequence[float], factor: float) -> list[int]:
    """Fast-dLLM v1's rule in a plain loop: the k-th best, from 1, has to have 1 - factor / (k + 1), but for the first."""
    order = sorted(range(len(confidences)), key=lambda i: -confidences[i])
    taken = 0
    while taken < len(order) and (taken == 0 or confidences[order[taken]] >= 1 - factor / (taken + 2)):
        taken += 1
    return sorted(order[:taken])


@pytest.mark.parametrize("factor", [0.25, 0.5, 1.0, 1.5, 4.0])
def test_factor_is_the_published_loop(unmask: Unmask, factor: float) -> None:
    rng = np.random.default_rng(round(factor * 4))
    for count in (1, 2, 5, 16):
        confidences = rng.uniform(0.5, 1, count).tolist()
        assert filled(unmask(sure_of(confidences, factor=np.array([factor], np.float32)))) == by_factor(confidences, factor)


def test_factor_stops_at_the_first_that_fails_and_adds_to_the_other_rules(unmask: Unmask) -> None:
    """With factor 1 the 2nd needs 2/3, the 3rd 3/4, the 4th 4/5: the third fails, though the fourth of equal confidence would not."""
    one = {"factor": np.ones(1, np.float32)}
    confidences = [0.7, 0.95, 0.72, 0.6]
    assert filled(unmask(sure_of(confidences, **one))) == [1, 2]
    assert filled(unmask(sure_of(confidences, **one, quota=np.array([3])))) == [0, 1, 2]
    assert filled(unmask(sure_of(confidences, **one, threshold=np.array([0.6 - 1e-6], np.float32)))) == [0, 1, 2, 3]
    assert filled(unmask(sure_of(confidences, factor=np.zeros(1, np.float32)))) == []


def test_rows_of_a_batch_keep_their_own_rules(unmask: Unmask) -> None:
    """A factor, a measure or a rank temperature beside a row changes nothing of it."""
    plain = sure_of([0.7, 0.95, 0.72, 0.6], quota=np.array([1]))
    others = [{"factor": np.ones(1, np.float32)}, {"measure": np.array([2])}, {"rank_temperature": np.ones(1, np.float32)}]
    rows = [plain, *(replace(plain, **other) for other in others)]
    names = [name for name in plain.__dataclass_fields__ if name != "allow_table"]
    together = unmask(replace(plain, **{name: np.concatenate([getattr(row, name) for row in rows]) for name in names}))
    for index, row in enumerate(rows):
        alone = unmask(row)
        np.testing.assert_array_equal(together.canvas[index], alone.canvas[0])
        np.testing.assert_array_equal(together.confidence[index], alone.confidence[0])


def test_rank_temperature_draws_the_order_in_proportion(unmask: Unmask) -> None:
    """Chi-square over 4096 rows: the first of four positions is drawn from softmax(confidence / rank_temperature)."""
    rows, warmth = 4096, 0.2
    one = sure_of([0.6, 0.9, 0.75, 0.8], quota=np.array([1]), rank_temperature=np.array([warmth], np.float32))
    names = [name for name in one.__dataclass_fields__ if name != "allow_table"]
    many = replace(one, **{name: np.repeat(getattr(one, name), rows, 0) for name in names})
    outputs = unmask(replace(many, seed=np.arange(rows)))
    assert (outputs.committed == 1).all()
    counts = np.bincount((outputs.canvas != MASK).argmax(1), minlength=4)
    expected = np.exp(outputs.confidence[0] / warmth)
    expected *= rows / expected.sum()
    assert ((counts - expected) ** 2 / expected).sum() < 16.3  # 3 degrees of freedom, p = 0.001


def test_rank_noise_is_not_that_of_any_token(unmask: Unmask) -> None:
    """A warm row ranks by other noise than it draws by: the token drawn does not tell the place."""
    warm = {"temperature": np.ones(1, np.float32), "rank_temperature": np.full(1, 100, np.float32), "quota": np.array([1])}
    first = unmask(sure_of([0.5] * 64, **warm))
    again = unmask(sure_of([0.5] * 64, **warm | {"temperature": np.zeros(1, np.float32)}))
    assert filled(first) == filled(again)


def test_everything_banned_is_least_sure_by_every_measure(unmask: Unmask) -> None:
    table = np.zeros((2, 6), np.float32)
    table[1] = -np.inf
    for measure, least in enumerate((0, 0, -np.log(6))):
        inputs = sure_of([0.6, 0.9], measure=measure, allow_table=table, allow_rows=np.array([[0, 1]]), quota=np.array([1]))
        outputs = unmask(inputs)
        assert outputs.confidence[0, 1] == pytest.approx(least)
        assert outputs.entropy[0, 1] == 0
        assert filled(outputs) == [0]
