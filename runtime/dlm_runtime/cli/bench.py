"""`dlm-bench`: checks and measurements of engines on the machine at hand."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.status import Status

from dlm_runtime.bundle import Bundle
from dlm_runtime.embedded import tavern_bundle
from dlm_runtime.engines.choose import EngineChoice
from dlm_runtime.engines.installation import onnxruntime_conflict
from dlm_runtime.errors import DlmError
from dlm_runtime.gpu_check.check import Check, Checks
from dlm_runtime.gpu_check.run import ENGINES, GpuCheck, Options

EXIT_FAILED, EXIT_BAD_INPUT = 1, 2
_STYLES = {"passed": "green", "failed": "bold red", "skipped": "yellow"}
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Check and measure engines on this machine.

    On a machine with a GPU, run `dlm-bench gpu-check --build` and paste what it prints into an issue.
    """


def _writable(file: Path | None) -> Path | None:
    """Find out now, not after minutes of work."""
    if file is not None:
        folder = file.absolute().parent
        if file.is_dir() or not os.access(file if file.exists() else folder, os.W_OK):
            raise typer.BadParameter(f"{file} cannot be written; name a file in a folder that exists")
    return file


@app.command("gpu-check")
def gpu_check(
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder written by dlm-export. Default: the embedded tavern.")] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(help="Check only this one, and fail if it does not load; may be repeated. Default: all that load."),
    ] = None,
    build: Annotated[
        bool, typer.Option("--build", help="Build a TensorRT plan of a copy of the bundle first (extras export and tensorrt-rtx).")
    ] = False,
    plugin: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="With --build: also build and check a plan with this plugin library."),
    ] = None,
    lines: Annotated[int, typer.Option(min=1, max=64, help="How many lines are written in each mode.")] = 8,
    max_rows: Annotated[int, typer.Option(min=1, max=256, help="Rows of the largest steps that are timed.")] = 32,
    repeats: Annotated[int, typer.Option(min=3, max=1000, help="Timed runs of each shape.")] = 20,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads on the CPU. Default: ONNX Runtime's choice.")] = None,
    out: Annotated[Path | None, typer.Option(callback=_writable, help="Write the report to this file instead of printing it.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", callback=_writable, help="Also write everything to this file as JSON.")
    ] = None,
) -> None:
    """Compare every engine that loads here with ONNX Runtime on the CPU, and measure it.

    For each: steps of every kind on random inputs, whole lines in every mode token for token, the same seeds twice and alone and in
    company, and milliseconds per step. Then the kernels on their test vectors. What cannot be checked here is skipped with its reason.

    Prints a report in Markdown. Exit codes: 0 nothing failed, 1 a check failed, 2 bad input.
    """
    console = Console(stderr=True)
    try:
        required = _engines(engine or [])
        if plugin is not None and not build:
            raise typer.BadParameter("a plugin is checked in a plan that is built with it; give --build too", param_hint="--plugin")
        options = Options(Bundle.load(bundle or tavern_bundle()), required, build, plugin, lines, max_rows, repeats, threads)
        if conflict := onnxruntime_conflict():
            console.print(f"Warning: {conflict}", style="yellow", markup=False, highlight=False, soft_wrap=True)
        with console.status("Loading ...") as status:
            display = _Display(console, status)
            report = GpuCheck(options, Checks(display.begin, display.end)).run()
    except DlmError as error:
        console.print(f"dlm-bench: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_BAD_INPUT) from None
    if json_file is not None:
        json_file.write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
    if out is not None:
        out.write_text(report.to_markdown(), encoding="utf-8")
        console.print(f"{report.summary}. The report is in {out}", markup=False, highlight=False, soft_wrap=True)
    else:
        sys.stdout.write(report.to_markdown())
    raise typer.Exit(EXIT_FAILED if report.failed else 0)


def _engines(names: list[str]) -> tuple[EngineChoice, ...]:
    """The engines of these names, each once. Raises BadParameter for a name that is none."""
    for name in names:
        if name not in ENGINES:
            raise typer.BadParameter(f"{name!r} is no engine to check; give one of {', '.join(ENGINES)}", param_hint="--engine")
    return tuple(name for name in ENGINES if name in names)


class _Display:
    """A line per check on standard error, and on a terminal what is being checked."""

    def __init__(self, console: Console, status: Status) -> None:
        self._console, self._status = console, status

    def begin(self, group: str, name: str) -> None:
        """What comes next."""
        self._status.update(f"{group}: {name} ...")

    def end(self, check: Check) -> None:
        """What came of it."""
        line = f"{check.state:8} {check.group}: {check.name} ({check.seconds:.1f} s)"
        detail = f" - {check.detail}" if check.state != "passed" else ""
        self._console.print(line + detail, style=_STYLES[check.state], markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point of `dlm-bench`."""
    app()


if __name__ == "__main__":
    main()
