"""How masks are spread over passes, against what the published loops compute."""

from __future__ import annotations

import pytest
from dlm_runtime.policies.quotas import even_quotas, rounded_quotas, truncated_quotas


@pytest.mark.parametrize(
    ("masks", "steps", "quotas"),
    [
        (16, 4, (4, 4, 4, 4)),
        (10, 4, (3, 3, 2, 2)),
        (3, 5, (1, 1, 1, 0, 0)),
        (0, 2, (0, 0)),
        (7, 1, (7,)),
    ],
)
def test_even(masks: int, steps: int, quotas: tuple[int, ...]) -> None:
    assert even_quotas(masks, steps) == quotas


@pytest.mark.parametrize(
    ("masks", "steps", "quotas"),
    [
        (16, 8, (2,) * 8),
        (12, 5, (2, 2, 3, 2, 3)),  # 12/5 = 2.4, 10/4 = 2.5 to even, 8/3 = 2.7, 5/2 = 2.5 to even
        (8, 3, (3, 2, 3)),
        (4, 9, (1, 1, 1, 1)),  # passes without a token are left out
        (45, 17, (3, 3, 3, 3, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3)),
        (5, 1, (5,)),
        (0, 3, ()),
    ],
)
def test_rounded(masks: int, steps: int, quotas: tuple[int, ...]) -> None:
    assert rounded_quotas(masks, steps) == quotas


def test_rounded_by_a_cosine() -> None:
    assert rounded_quotas(15, 5, "cosine") == (1, 2, 3, 4, 5)
    assert rounded_quotas(44, 33, "cosine")[:13] == (1,) * 11 + (2, 2)
    assert sum(rounded_quotas(44, 33, "cosine")) == 44


@pytest.mark.parametrize(
    ("masks", "steps", "eps", "quotas"),
    [
        (16, 8, 1e-3, (1, 2, 2, 2, 2, 2, 2, 3)),
        (24, 10, 1e-3, (2, 2, 2, 2, 2, 2, 2, 3, 3, 4)),
        (20, 20, 1e-3, (0, *(1,) * 18, 2)),
        (19, 13, 0.2, (*(1,) * 12, 7)),
        (23, 7, 0.05, (3, 3, 3, 3, 3, 3, 5)),
        (12, 1, 1e-3, (12,)),
    ],
)
def test_truncated(masks: int, steps: int, eps: float, quotas: tuple[int, ...]) -> None:
    assert truncated_quotas(masks, steps, eps) == quotas


def test_truncated_from_a_later_pass_on() -> None:
    assert truncated_quotas(7, 5, 1e-3, first=1) == (1, 1, 2, 3)
    assert truncated_quotas(7, 1, 1e-3, first=1) == ()


@pytest.mark.parametrize("masks", [0, 1, 5, 31, 64, 100])
@pytest.mark.parametrize("steps", [1, 2, 7, 30, 64, 130])
def test_nothing_is_left(masks: int, steps: int) -> None:
    assert sum(even_quotas(masks, steps)) == masks
    assert sum(truncated_quotas(masks, steps, 1e-3)) == masks
    for schedule in ("linear", "cosine"):
        assert sum(rounded_quotas(masks, steps, schedule)) == masks
