"""Graph against reference: how far apart, by which measure, and what is still good enough."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from dlm_runtime.bundle import Manifest
from numpy.typing import NDArray

from .cases import Case
from .decisions import wrong_decisions
from .session import StepAnswer
from .torch_reference import Reference

Floats = NDArray[np.float32]

FP32_LOGITS_ABS = 1e-4
# A sharp model moves further than that when nothing but the order of its sums changes. Two sound float32 programs were seen up to 4
# times as far from each other as torch is from float64; a real mistake is off by hundreds of times as much.
ROUNDINGS_ALLOWED = 8
SMALLEST_SPREAD = 1e-12  # of logits that are all equal
INT8_LEAST_AGREEMENT = 0.85
INT8_MOST_RELATIVE_ERROR = 0.15


@dataclass(frozen=True)
class CaseResult:
    """One case's outcome.

    `largest_error` is the largest absolute difference on logits and on keys and values; `relative_error` the root mean square of the
    differences on logits over the standard deviation of the logits; `agreement` the share of positions whose likeliest token is the
    same. `tolerance` bounds `largest_error` in fp32. `wrong_decisions` counts what decisions.py finds wrong in the unmasking.
    """

    name: str
    positions: int
    largest_error: float
    relative_error: float
    agreement: float
    finite: bool
    tolerance: float = FP32_LOGITS_ABS
    wrong_decisions: int = 0


@dataclass(frozen=True)
class Tolerance:
    """What passes. fp32: every difference within the case's own bound. int8: most likeliest tokens kept, moderate noise."""

    precision: Literal["fp32", "int8"]

    def passes(self, result: CaseResult) -> bool:
        """Whether one case is good enough."""
        if not result.finite or result.wrong_decisions:
            return False
        if self.precision == "fp32":
            return result.largest_error <= result.tolerance
        return result.relative_error <= INT8_MOST_RELATIVE_ERROR

    def passes_all(self, results: list[CaseResult]) -> bool:
        """Whether a whole report is; int8 agreement is judged over all positions, as single cases are short."""
        agreement = sum(r.agreement * r.positions for r in results) / max(sum(r.positions for r in results), 1)
        enough = self.precision == "fp32" or agreement >= INT8_LEAST_AGREEMENT
        return enough and all(self.passes(result) for result in results)

    def __str__(self) -> str:
        if self.precision == "fp32":
            return f"fp32: largest error at most {FP32_LOGITS_ABS:g}, or {ROUNDINGS_ALLOWED} times torch's own rounding"
        return (
            f"int8: root mean square error at most {INT8_MOST_RELATIVE_ERROR:.0%} of the logits' spread in every case, "
            f"likeliest token kept at {INT8_LEAST_AGREEMENT:.0%} of all positions"
        )


@dataclass(frozen=True)
class VerifyReport:
    """All cases of one bundle."""

    precision: Literal["fp32", "int8"]
    results: tuple[CaseResult, ...]

    @property
    def tolerance(self) -> Tolerance:
        """The criterion of this precision."""
        return Tolerance(self.precision)

    @property
    def passed(self) -> bool:
        """Whether every case is good enough."""
        return self.tolerance.passes_all(list(self.results))

    @property
    def largest_error(self) -> float:
        """Over all cases."""
        return max(result.largest_error for result in self.results)

    @property
    def agreement(self) -> float:
        """Share of all compared positions whose likeliest token is the same."""
        return sum(r.agreement * r.positions for r in self.results) / sum(r.positions for r in self.results)


def compare_logits(name: str, found: Floats, expected: Floats, *, tolerance: float = FP32_LOGITS_ABS) -> CaseResult:
    """Measure two arrays of logits [N, V]."""
    difference = np.abs(found.astype(np.float64) - expected)
    spread = max(float(expected.std()), SMALLEST_SPREAD)
    return CaseResult(
        name=name,
        positions=len(found),
        largest_error=float(difference.max()),
        relative_error=float(np.sqrt(np.square(difference).mean())) / spread,
        agreement=float((found.argmax(-1) == expected.argmax(-1)).mean()),
        finite=bool(np.isfinite(found).all()),
        tolerance=tolerance,
    )


def compare_case(case: Case, answer: StepAnswer, reference: Reference, manifest: Manifest) -> CaseResult:
    """Measure one step against the plain answers of its rows, at real positions; padding has to be finite and no more."""
    logits = answer.outputs["logits"]
    found: list[Floats] = []
    expected: list[Floats] = []
    for index, (row, plain) in enumerate(zip(case.rows, reference.answers, strict=True)):
        found.append(logits[index, :1] if case.last_only else logits[index, : len(row.query_ids)])
        expected.append(plain.logits[-1:] if case.last_only else plain.logits)
    tolerance = max(FP32_LOGITS_ABS, ROUNDINGS_ALLOWED * reference.rounding)
    result = compare_logits(case.name, np.concatenate(found), np.concatenate(expected), tolerance=tolerance)
    return replace(
        result,
        largest_error=max(result.largest_error, cache_error(answer, reference)),
        finite=all(bool(np.isfinite(answer.outputs[name]).all()) for name in ("logits", "confidence", "entropy")),
        wrong_decisions=wrong_decisions(answer, mask_token_id=manifest.mask_token_id),
    )


def cache_error(answer: StepAnswer, reference: Reference) -> float:
    """Largest absolute difference on the keys and values of real positions."""
    return max(
        float(np.abs(answer.outputs[f"present.{layer}.{name}"][index, :, : array.shape[1]] - array).max())
        for index, plain in enumerate(reference.answers)
        for layer, pair in enumerate(plain.present)
        for name, array in zip(("key", "value"), pair, strict=True)
    )
