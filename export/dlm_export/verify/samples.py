"""Recorded sampler runs, run again: each by itself, and all of a file in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dlm_runtime.bundle import Bundle, Manifest
from dlm_runtime.engines import OnnxEngine
from dlm_runtime.engines.base import Engine
from dlm_runtime.errors import DlmError
from dlm_runtime.policies.plain import run_line
from dlm_runtime.scheduler.together import write_together

from ..progress import SILENT, Progress
from .sampler_runs import PreparedRow, PreparedRun, RecordedRun, UnknownSampler, UnsupportedRun, prepare
from .samples_file import read_samples
from .samples_report import Difference, Ids, RunResult, SamplesReport, first_difference, trajectory_difference


def verify_samples(bundle: Bundle, folder: Path, progress: Progress = SILENT) -> SamplesReport:
    """Runs every run of the folder's samples.json again and compares tokens, forward passes and canvases.

    Alone, the plain executor writes row after row; mixed, the scheduler's writes the rows of all runs in common forward passes. A run whose
    sampler or parameters are not known counts as different. Raises CheckpointError where the file cannot be read.
    """
    runs = read_samples(folder, bundle.manifest.vocab_size)
    engine = OnnxEngine(bundle)
    try:
        return SamplesReport(tuple(run_again(engine, runs, progress)))
    finally:
        engine.close()


def run_again(engine: Engine, runs: Sequence[RecordedRun], progress: Progress = SILENT) -> list[RunResult]:
    """The outcome of every run, in order. One that fails alone is left out of the batch, which would fail with it."""
    results = [refused(run, engine.manifest) for run in runs]
    known = [number for number, result in enumerate(results) if result is None]
    alone: dict[int, Difference | None] = {}
    for number in known:
        progress.stage(f"run {runs[number].id}, {len(alone) + 1} of {len(known)}")
        alone[number] = run_alone(engine, runs[number])
    able = [number for number, difference in alone.items() if difference is None or difference.what != "error"]
    progress.stage(f"all {len(able)} runs in one batch")
    mixed = alone | dict(zip(able, run_mixed(engine, [runs[number] for number in able]), strict=True))
    for number in known:
        results[number] = RunResult(runs[number].id, runs[number].sampler, alone[number], mixed[number])
    return [result for result in results if result is not None]


def refused(run: RecordedRun, manifest: Manifest) -> RunResult | None:
    """Why a run cannot be run, if so."""
    try:
        prepare(run, manifest)
    except UnknownSampler as error:
        return RunResult(run.id, run.sampler, refused=str(error), unknown=True)
    except (UnsupportedRun, ValueError) as error:  # a policy says so of numbers that it cannot use
        return RunResult(run.id, run.sampler, refused=str(error))
    return None


def run_alone(engine: Engine, run: RecordedRun) -> Difference | None:
    """Row after row, with canvases."""
    prepared = prepare(run, engine.manifest)
    try:
        seen = [write_alone(engine, row) for row in prepared.rows]
    except (DlmError, ValueError) as error:  # a policy says so of numbers that do not suit its line
        return Difference("error", problem=str(error))
    return outcome(run, prepared) or canvas_difference(run, prepared, seen)


def canvas_difference(run: RecordedRun, prepared: PreparedRun, seen: Sequence[Sequence[Ids]]) -> Difference | None:
    """The first canvas on the way that differs, where they were recorded and the row knows how they are shown."""
    for number, (row, canvases) in enumerate(zip(prepared.rows, seen, strict=True)):
        recorded = [state[number] for state in run.trajectory or ()]
        if recorded and row.canvas is not None and (difference := trajectory_difference(canvases, recorded, number)) is not None:
            return difference
    return None


def write_alone(engine: Engine, row: PreparedRow) -> list[Ids]:
    """Writes one row; its canvas after every pass that may have changed it."""
    canvases: list[Ids] = []
    shown = row.canvas
    run_line(engine, row.noting, row.line, None if shown is None else lambda canvas: canvases.append(shown(row.line)))
    return canvases


def run_mixed(engine: Engine, runs: Sequence[RecordedRun]) -> list[Difference | None]:
    """The rows of all runs together."""
    prepared = [prepare(run, engine.manifest) for run in runs]
    rows = [row for one in prepared for row in one.rows]
    uncut = max(1, sum(row.line.prompt_length for row in rows))  # a prompt that is run in pieces takes more passes than recorded
    try:
        write_together(engine, [(row.noting, row.line) for row in rows], uncut)
    except DlmError as error:
        return [Difference("error", problem=str(error)) for _ in runs]
    return [outcome(run, one) for run, one in zip(runs, prepared, strict=True)]


def outcome(run: RecordedRun, prepared: PreparedRun) -> Difference | None:
    """Tokens and number of forward passes against the recording."""
    found = [row.output(row.line) for row in prepared.rows]
    if (difference := first_difference(found, run.output_ids)) is not None:
        return difference
    forwards = prepared.forwards
    return None if forwards == run.forwards else Difference("forwards", run.forwards, forwards)
