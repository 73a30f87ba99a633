"""What a step costs by shape: milliseconds on an engine, and how many times the CPU's."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from typing import NamedTuple

from dlm_runtime.bundle import Manifest
from dlm_runtime.engines.base import Engine, StepBatch
from dlm_runtime.gpu_check.batches import step

WARM_UP = 6  # a native engine captures a shape's graph in its fourth run
FEWEST = 3
_SLOW_S = 1.5  # a shape is not repeated for longer


class Shape(NamedTuple):
    """A kind of step."""

    name: str
    rows: int
    tokens: int
    past: int


@dataclass(frozen=True)
class Timing:
    """Median, fastest and slowest of `runs` runs after the warm-up."""

    engine: str
    shape: Shape
    median_ms: float
    fastest_ms: float
    slowest_ms: float
    runs: int


def shapes(manifest: Manifest, most_rows: int) -> list[Shape]:
    """Prompts, single words and blocks, alone and in company."""
    block, past = manifest.block_length, max(0, min(128, manifest.max_context - manifest.block_length))
    rows = sorted({1, min(8, most_rows), most_rows})
    prompt = min(128, manifest.max_context)
    return [
        Shape("prefill", 1, prompt, 0),
        *(Shape("autoregression", count, 1, past) for count in rows),
        *(Shape("denoise", count, block, past) for count in rows),
        *(Shape("verify", count, block, past) for count in rows[:1]),
    ]


def time_shape(name: str, engine: Engine, shape: Shape, repeats: int) -> Timing:
    """Steps as the scheduler asks for them: a past that stays where it is, and only the outputs that it would read."""
    batch = _batch(engine.manifest, shape)
    runs: list[float] = []
    began = time.perf_counter()
    for number in range(WARM_UP + repeats):
        started = time.perf_counter()
        engine.step(batch)
        taken = (time.perf_counter() - started) * 1000
        late = time.perf_counter() - began > _SLOW_S
        if number >= WARM_UP or (late and number):
            runs.append(taken)
        if late and len(runs) >= FEWEST:
            break
    return Timing(name, shape, statistics.median(runs), min(runs), max(runs), len(runs))


def _batch(manifest: Manifest, shape: Shape) -> StepBatch:
    denoises = shape.name == "denoise"
    window = 1 if shape.name == "prefill" else shape.tokens
    batch = step(
        manifest, shape.rows, shape.tokens, shape.past, window, causal=not denoises, masked=0.5 if denoises else 0.0, past_version=1
    )
    return replace(batch, want_logits=False, want_confidence=False, want_present=not denoises)
