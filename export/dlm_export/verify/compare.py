"""Graph against reference: how far apart, by which measure, and what is still good enough."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from dlm_runtime.bundle import Manifest, Precision
from numpy.typing import NDArray

from .cases import Case
from .decisions import wrong_decisions
from .quality_report import QualityReport
from .samples_report import SamplesReport
from .session import StepAnswer
from .torch_reference import Reference

Floats = NDArray[np.float32]

FP32_LOGITS_ABS = 1e-4
# A sharp model moves further than that when nothing but the order of its sums changes. Two sound float32 programs were seen up to 4
# times as far from each other as torch is from float64; a real mistake is off by hundreds of times as much.
ROUNDINGS_ALLOWED = 8
SMALLEST_SPREAD = 1e-12  # of logits that are all equal
# Of the lower precisions: most relative error of the median case, least agreement over all. They tell rounding from mistakes, on random
# tokens and also in random models of a few thousand numbers, which rounding disturbs far more than trained ones. A single case may be
# further off, as a router that rounding tips sends a token to another expert. A wrong graph comes to about 1.4 and 0. How good a bundle is
# on real text, quality.py says.
MOST_OF_ANY_CASE = 1.0
LIMITS: dict[Precision, tuple[float, float]] = {"fp16": (0.02, 0.9), "bf16": (0.1, 0.85), "int8": (0.3, 0.75), "int4": (0.75, 0.25)}
COARSENESS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8", "int4")


@dataclass(frozen=True)
class CaseResult:
    """One case's outcome.

    `largest_error` is the largest absolute difference on logits and on keys and values; `relative_error` the root mean square of the
    differences on logits over the standard deviation of the logits, `cache_relative_error` the same of keys and values; `agreement` the
    share of positions whose likeliest token is the same. `tolerance` bounds `largest_error` in fp32. `wrong_decisions` counts what
    decisions.py finds wrong in the unmasking.
    """

    name: str
    positions: int
    largest_error: float
    relative_error: float
    agreement: float
    finite: bool
    tolerance: float = FP32_LOGITS_ABS
    wrong_decisions: int = 0
    cache_relative_error: float = 0.0


@dataclass(frozen=True)
class Tolerance:
    """What passes. fp32: every difference within the case's own bound. Below: most likeliest tokens kept, moderate noise."""

    precision: Precision

    def passes(self, result: CaseResult) -> bool:
        """Whether one case is good enough."""
        if not result.finite or result.wrong_decisions:
            return False
        if self.precision == "fp32":
            return result.largest_error <= result.tolerance
        return max(result.relative_error, result.cache_relative_error) <= MOST_OF_ANY_CASE

    def passes_all(self, results: list[CaseResult]) -> bool:
        """Whether a whole report is; agreement is judged over all positions, as single cases are short."""
        if not all(self.passes(result) for result in results):
            return False
        if self.precision == "fp32":
            return True
        most_error, least_agreement = LIMITS[self.precision]
        agreement = sum(r.agreement * r.positions for r in results) / max(sum(r.positions for r in results), 1)
        medians = (median(r.relative_error for r in results), median(r.cache_relative_error for r in results))
        return agreement >= least_agreement and max(medians) <= most_error

    def __str__(self) -> str:
        if self.precision == "fp32":
            least = f"{FP32_LOGITS_ABS:g}, what a recording states, or {ROUNDINGS_ALLOWED} times torch's own rounding"
            return f"fp32: no error above what its case is allowed: {least}"
        error, agreement = LIMITS[self.precision]
        return (
            f"{self.precision}: root mean square error of logits, keys and values at most {error:.0%} of their spread in the median case "
            f"and {MOST_OF_ANY_CASE:.0%} in any, likeliest token kept at {agreement:.0%} of all positions"
        )


def coarsest_precision(manifest: Manifest) -> Precision:
    """The precision that a bundle's tolerance goes by: the lowest of layers, embedding and head."""
    parts = (manifest.precision, manifest.embedding_precision, manifest.head_precision or manifest.precision)
    return max(parts, key=COARSENESS.index)


@dataclass(frozen=True)
class VerifyReport:
    """All cases of one bundle; how much it differs from fp32 on real prompts, and recorded sampler runs, where they were looked at."""

    precision: Precision
    results: tuple[CaseResult, ...] = ()
    quality: QualityReport | None = None
    samples: SamplesReport | None = None

    @property
    def tolerance(self) -> Tolerance:
        """The criterion of this precision."""
        return Tolerance(self.precision)

    @property
    def passed(self) -> bool:
        """Whether every case is good enough and every sampler run equal. Quality has no bound: what a game can bear is not known here."""
        runs = self.samples is None or self.samples.passed
        return runs and (not self.results or self.tolerance.passes_all(list(self.results)))

    @property
    def largest_error(self) -> float:
        """Over all cases; NaN where one has it."""
        return float(np.max([result.largest_error for result in self.results], initial=0.0))

    @property
    def agreement(self) -> float:
        """Share of all compared positions whose likeliest token is the same."""
        return sum(r.agreement * r.positions for r in self.results) / max(sum(r.positions for r in self.results), 1)


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
    cache = compare_cache(answer, reference)
    finite = all(bool(np.isfinite(answer.outputs[name]).all()) for name in ("logits", "confidence", "entropy"))
    return replace(
        result,
        largest_error=float(np.maximum(result.largest_error, cache.largest_error)),  # max() of Python would drop a NaN
        cache_relative_error=cache.relative_error,
        finite=finite and cache.finite,
        wrong_decisions=wrong_decisions(answer, mask_token_id=manifest.mask_token_id),
    )


def compare_cache(answer: StepAnswer, reference: Reference) -> CaseResult:
    """Measure the keys and values of real positions, all layers together; `agreement` means nothing here."""
    pairs = [
        (answer.outputs[f"present.{layer}.{name}"][index, :, : array.shape[1]].astype(np.float32), array)
        for index, plain in enumerate(reference.answers)
        for layer, pair in enumerate(plain.present)
        for name, array in zip(("key", "value"), pair, strict=True)
    ]
    found, expected = (np.concatenate([part.reshape(-1, 1) for part in parts]) for parts in zip(*pairs, strict=True))
    return compare_logits("keys and values", found, expected)
