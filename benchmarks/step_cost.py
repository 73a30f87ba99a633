"""What one engine step costs: milliseconds over rows, tokens and past, for one bundle or for several side by side.

    python benchmarks/step_cost.py BUNDLE [BUNDLE ...] [--threads N]

Bundles take turns within every repetition, so that noise of the machine hits all alike; compare the ratio, not the milliseconds.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from dlm_runtime.bundle import Bundle
from dlm_runtime.engines import KeyValues, OnnxEngine, block_ids
from dlm_runtime.engines.base import StepBatch
from rich.console import Console
from rich.table import Table

SHAPES = ((1, 1, 128), (1, 16, 128), (1, 32, 128), (1, 128, 0), (8, 1, 128), (8, 32, 128), (32, 1, 128), (32, 16, 128), (32, 32, 128))


def batch_of(engine: OnnxEngine, rows: int, tokens: int, past: int) -> StepBatch:
    """A denoising step over random tokens, half of them masked; causal when it is a single token or a prompt."""
    manifest, rng = engine.manifest, np.random.default_rng(0)
    input_ids = rng.integers(0, manifest.vocab_size, (rows, tokens))
    if tokens > 1 and past and manifest.mask_token_id is not None:
        input_ids[:, tokens // 2 :] = manifest.mask_token_id
    window = 1 if not past else tokens
    return StepBatch(
        input_ids=input_ids,
        position_ids=np.tile(np.arange(past, past + tokens), (rows, 1)),
        past_lengths=np.full(rows, past),
        query_lengths=np.full(rows, tokens),
        block_ids=block_ids([tokens == 1 or not past] * rows, tokens),
        past=KeyValues.of(rng.standard_normal((manifest.layers, 2, rows, manifest.kv_heads, past, manifest.head_dim), np.float32)),
        window_start=np.full(rows, tokens - window),
        allow_rows=np.zeros((rows, window), np.int64),
        allow_table=np.zeros((1, manifest.vocab_size), np.float32),
        quota=np.ones(rows, np.int64),
        threshold=np.full(rows, 0.9, np.float32),
        temperature=np.zeros(rows, np.float32),
        seed=np.zeros(rows, np.int64),
        step=np.ones(rows, np.int64),
        want_present=tokens == 1,
    )


def main(
    bundles: Annotated[list[Path], typer.Argument(help="Bundle folders to compare.")],
    threads: Annotated[int | None, typer.Option(help="Engine threads. Default: the engine's choice.")] = None,
    repeats: Annotated[int, typer.Option(help="Steps per shape; the median is shown.")] = 15,
) -> None:
    """Print the median cost of a step per shape and bundle, and its ratio to the first bundle's."""
    engines = [OnnxEngine(Bundle.load(path), threads=threads) for path in bundles]
    table = Table("rows", "tokens", "past", *(f"{path.name} ms" for path in bundles), *(f"{path.name} ratio" for path in bundles[1:]))
    for shape in SHAPES:
        batches = [batch_of(engine, *shape) for engine in engines]
        times: list[list[float]] = [[] for _ in engines]
        for _ in range(repeats + 2):
            for engine, batch, taken in zip(engines, batches, times, strict=True):
                started = time.perf_counter()
                engine.step(batch)
                taken.append((time.perf_counter() - started) * 1000)
        medians = [statistics.median(taken[2:]) for taken in times]
        ratios = [f"{median / medians[0]:.2f}" for median in medians[1:]]
        table.add_row(*(str(size) for size in shape), *(f"{median:.2f}" for median in medians), *ratios)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
