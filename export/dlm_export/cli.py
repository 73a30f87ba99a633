"""`dlm-export`: write, inspect and verify bundles."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from dlm_runtime.errors import DlmError
from rich.console import Console
from rich.markup import escape

from .default_command import DefaultCommandGroup

# The commands import what they run themselves: torch takes seconds to load, and neither --help nor inspect needs it.

BAD_INPUT = 2
NOT_EQUAL = 1
INTERRUPTED = 130
EXTRA_MODULES = ("torch", "onnx", "safetensors")  # what the extra `export` brings and the base install has not

app = typer.Typer(
    cls=DefaultCommandGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Turn a diffusion language model's checkpoint into a bundle, the folder that dlm-serve runs.\n\n"
    "[bold]dlm-export CHECKPOINT --out DIR[/] \\[--precision fp32|int8] \\[--name NAME] \\[--force] \\[--json]\n\n"
    "CHECKPOINT is a folder with config.json and safetensors. Exit codes: 0 done, 1 bundle and checkpoint differ, 2 bad input.",
    epilog="[bold]Examples[/]\n\n"
    "dlm-export my-checkpoint --out my-bundle\n\n"
    "dlm-export my-checkpoint --out my-small-bundle --precision int8\n\n"
    "dlm-export inspect my-bundle\n\n"
    "dlm-export verify my-bundle my-checkpoint",
)


class PrecisionName(StrEnum):
    """Choices of --precision."""

    fp32 = "fp32"
    int8 = "int8"


CheckpointArgument = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Folder with config.json and safetensors.")]
BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that dlm-export wrote.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


@app.command()
def export(
    checkpoint: CheckpointArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the bundle goes; must be new or empty.")],
    precision: Annotated[PrecisionName, typer.Option(help="int8: smaller and faster, close to fp32 but not equal.")] = PrecisionName.fp32,
    name: Annotated[str | None, typer.Option(help="The bundle's name; the checkpoint folder's unless given.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the bundle that is at --out.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a bundle (the default: the word `export` may be left out).

    The folder appears whole or not at all.
    """
    with reported_errors(), working("loading torch and onnx", quiet=as_json) as status:
        from .display import export_json, show_export
        from .exporting import export_bundle

        report = export_bundle(checkpoint, out, precision=precision.value, force=force, name=name, progress=status)
    if as_json:
        typer.echo(json.dumps(export_json(report), indent=2))
    else:
        show_export(Console(), report)


@app.command()
def inspect(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Print what is in a bundle: sizes, special ids, files, inputs and outputs."""
    with reported_errors():
        from .display import show_inspection
        from .inspection import inspect_bundle

        inspection = inspect_bundle(bundle)
    if as_json:
        typer.echo(json.dumps(inspection.to_json(), indent=2))
    else:
        show_inspection(Console(), inspection)


@app.command()
def verify(
    bundle: BundleArgument,
    checkpoint: CheckpointArgument,
    seed: Annotated[int, typer.Option(help="Seed of the random input.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Compare a bundle with its checkpoint: ONNX Runtime against torch, in every mode, and recorded logits where there are some.

    `allowed` is 1e-4, or more where torch's own rounding, measured against float64, moves the numbers further than usual.
    Exit code 1 says that they differ.
    """
    with reported_errors(), working("comparing with torch", quiet=as_json):
        from .display import show_verify, verify_json
        from .verify import verify_bundle

        report = verify_bundle(bundle, checkpoint, seed=seed)
    if as_json:
        typer.echo(json.dumps(verify_json(report), indent=2))
    else:
        show_verify(Console(), report)
    if not report.passed:
        raise typer.Exit(NOT_EQUAL)


@contextmanager
def reported_errors() -> Iterator[None]:
    """A foreseen error becomes one sentence on stderr and exit code 2; Ctrl-C leaves with 130."""
    try:
        yield
    except DlmError as error:
        complain(str(error))
        raise typer.Exit(BAD_INPUT) from error
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA_MODULES:
            raise
        complain(f"{error.name} is not installed, which this command needs. Install the extra: pip install 'dlm-npc[export]'")
        raise typer.Exit(BAD_INPUT) from error
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; nothing was written")
        raise typer.Exit(INTERRUPTED) from None


def complain(sentence: str) -> None:
    """An error on stderr, in one line however narrow the terminal is."""
    Console(stderr=True).print(f"[red]error[/] {escape(sentence)}", soft_wrap=True, highlight=False)


class Status:
    """Shows a sentence while work goes on; silent where nobody looks."""

    def __init__(self, console: Console | None, first: str) -> None:
        self._spinner = console.status(first) if console else None

    def __call__(self, sentence: str) -> None:
        if self._spinner:
            self._spinner.update(sentence)

    def __enter__(self) -> Status:
        if self._spinner:
            self._spinner.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._spinner:
            self._spinner.stop()


def working(sentence: str, *, quiet: bool) -> Status:
    """A spinner on stderr, unless output is for machines or goes to a file."""
    return Status(None if quiet or not sys.stderr.isatty() else Console(stderr=True), sentence)
