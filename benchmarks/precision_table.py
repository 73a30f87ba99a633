"""What every precision costs and changes, for one checkpoint, as a markdown table.

    python benchmarks/precision_table.py samples/tavern/checkpoint [--lines N] [--threads N]

Exports the checkpoint in each precision, lets all bundles take turns at the same steps, and compares each with the fp32 one on the
tavern's questions. Compare the ratios; they come from one run, so that noise of the machine hits all alike.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from dlm_export.export_options import ExportOptions
from dlm_export.exporting import export_bundle
from dlm_export.verify.quality import LINES, compare_bundles
from dlm_export.verify.quality_report import QualityReport
from dlm_runtime.bundle import Bundle
from dlm_runtime.engines import OnnxEngine
from rich.console import Console
from step_cost import batch_of

FP32 = "fp32"
CHOICES = {
    FP32: ExportOptions(),
    "fp16": ExportOptions(precision="fp16"),
    "bf16": ExportOptions(precision="bf16"),
    "int8": ExportOptions(precision="int8"),
    "int8, embedding int8": ExportOptions(precision="int8", embedding_precision="int8"),
    "int4": ExportOptions(precision="int4"),
    "int4, head int8": ExportOptions(precision="int4", head_precision="int8"),
    "int4, embedding int8": ExportOptions(precision="int4", embedding_precision="int8"),
}
SHAPES = ((32, 32, 128), (1, 32, 128), (1, 1, 128))  # rows, tokens, past
WARM_UP = 2


def step_ratios(bundles: dict[str, Path], threads: int | None, repeats: int) -> dict[str, list[float]]:
    """Median time of a step of each shape, over that of fp32; bundles take turns within every repetition."""
    engines = {name: OnnxEngine(Bundle.load(path), threads=threads) for name, path in bundles.items()}
    ratios: dict[str, list[float]] = {name: [] for name in bundles}
    for shape in SHAPES:
        batches = {name: batch_of(engine, *shape) for name, engine in engines.items()}
        times: dict[str, list[float]] = {name: [] for name in bundles}
        for _ in range(repeats + WARM_UP):
            for name, engine in engines.items():
                started = time.perf_counter()
                engine.step(batches[name])
                times[name].append(time.perf_counter() - started)
        medians = {name: statistics.median(taken[WARM_UP:]) for name, taken in times.items()}
        for name, median in medians.items():
            ratios[name].append(median / medians[FP32])
    return ratios


def row(name: str, size_bytes: int, ratios: list[float], report: QualityReport) -> str:
    """One line of the table."""
    cells = [name, f"{size_bytes / 1e6:.1f}", *(f"{ratio:.2f}" for ratio in ratios)]
    for agreement in (report.next_token, report.denoising):
        cells += [f"{agreement.top1:.1%}", f"{agreement.kl:.1e}" if agreement.kl > 1e-9 else "0"] if agreement else ["-", "-"]
    cells.append(f"{report.lines.changed} of {report.lines.total}" if report.lines else "-")
    return f"| {' | '.join(cells)} |"


def main(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
    lines: Annotated[int, typer.Option(help="Questions to compare on.")] = LINES,
    threads: Annotated[int | None, typer.Option(help="Engine threads. Default: the engine's choice.")] = None,
    repeats: Annotated[int, typer.Option(help="Steps per shape; the median counts.")] = 15,
) -> None:
    """Export, measure, print."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        bundles, sizes = {}, {}
        for number, (name, options) in enumerate(CHOICES.items()):
            console.print(f"exporting {name}")
            bundles[name] = Path(folder) / str(number)
            sizes[name] = export_bundle(checkpoint, bundles[name], options).size_bytes
        console.print("timing steps")
        ratios = step_ratios(bundles, threads, repeats)
        shapes = [f"{rows} x {tokens}" for rows, tokens, _ in SHAPES]
        heads = ["precision", "MB", *(f"step {shape}" for shape in shapes), "next: top-1", "KL", "denoising: top-1", "KL", "lines changed"]
        print(f"| {' | '.join(heads)} |\n|---|{'---:|' * (len(heads) - 1)}")
        for name, path in bundles.items():
            console.print(f"comparing {name}")
            print(row(name, sizes[name], ratios[name], compare_bundles(path, bundles[FP32], lines=lines)))


if __name__ == "__main__":
    typer.run(main)
