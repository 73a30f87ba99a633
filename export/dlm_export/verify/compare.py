"""Graph against reference: how far apart, by which measure, and what is still good enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from dlm_kernels.unmask import parallel_unmask
from dlm_runtime.bundle import Manifest
from numpy.typing import NDArray

from .cases import Case
from .session import StepAnswer
from .torch_reference import RowAnswer

Floats = NDArray[np.float32]

FP32_LOGITS_ABS = 1e-4
INT8_LEAST_AGREEMENT = 0.85
INT8_MOST_RELATIVE_ERROR = 0.15


@dataclass(frozen=True)
class CaseResult:
    """One case's outcome.

    `largest_error` is the largest absolute difference on logits and on keys and values; `relative_error` the root mean square of the
    differences on logits over the standard deviation of the logits; `agreement` the share of positions whose likeliest token is the
    same. `wrong_decisions` counts positions where `dlm::ParallelUnmask` and its numpy reference chose differently from equal logits.
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
            return f"fp32: largest error at most {FP32_LOGITS_ABS:g}"
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


def compare_logits(name: str, found: Floats, expected: Floats, *, extra_error: float = 0.0, finite: bool = True) -> CaseResult:
    """Measure two arrays of logits [N, V]; `extra_error` is a difference found elsewhere (keys and values)."""
    difference = np.abs(found.astype(np.float64) - expected)
    return CaseResult(
        name=name,
        positions=len(found),
        largest_error=max(float(difference.max()), extra_error),
        relative_error=float(np.sqrt(np.square(difference).mean()) / expected.std()),
        agreement=float((found.argmax(-1) == expected.argmax(-1)).mean()),
        finite=finite and bool(np.isfinite(found).all()),
    )


def compare_case(case: Case, answer: StepAnswer, references: list[RowAnswer], manifest: Manifest) -> CaseResult:
    """Measure one step against the plain answers of its rows, at real positions; padding has to be finite and no more."""
    logits = answer.outputs["logits"]
    found: list[Floats] = []
    expected: list[Floats] = []
    cache_error = 0.0
    for index, (row, reference) in enumerate(zip(case.rows, references, strict=True)):
        size = len(row.query_ids)
        found.append(logits[index, :1] if case.last_only else logits[index, :size])
        expected.append(reference.logits[-1:] if case.last_only else reference.logits)
        for layer, pair in enumerate(reference.present):
            for part, name in enumerate(("key", "value")):
                present = answer.outputs[f"present.{layer}.{name}"][index, :, :size]
                cache_error = max(cache_error, float(np.abs(present - pair[part]).max()))
    finite = all(bool(np.isfinite(answer.outputs[name]).all()) for name in ("logits", "confidence", "entropy"))
    result = compare_logits(case.name, np.concatenate(found), np.concatenate(expected), extra_error=cache_error, finite=finite)
    return CaseResult(**{**result.__dict__, "wrong_decisions": wrong_decisions(answer, manifest)})


def wrong_decisions(answer: StepAnswer, manifest: Manifest) -> int:
    """Positions where the graph's unmasking and its numpy reference, given the graph's own logits, chose another token."""
    expected = parallel_unmask(answer.unmask_inputs(), mask_token_id=manifest.mask_token_id, top_k=manifest.top_k)
    sampled = answer.outputs["sampled_ids"] != expected.sampled_ids
    canvas = answer.outputs["canvas"] != expected.canvas
    return int((sampled | canvas).sum())
