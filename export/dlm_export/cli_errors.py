"""How errors leave the command: one sentence on stderr and an exit code."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import typer
from dlm_runtime.errors import DlmError
from rich.console import Console
from rich.markup import escape

NOT_EQUAL = 1
BAD_INPUT = 2
DEFECT = 3
INTERRUPTED = 130
EXTRA_MODULES = ("torch", "onnx", "safetensors", "huggingface_hub", "onnxscript", "onnx_ir")  # what the extra `export` brings


@contextmanager
def reported_errors(stopped: str = "stopped") -> Iterator[None]:
    """A foreseen error becomes one sentence on stderr and exit code 2; Ctrl-C and a polite kill leave with 130, cleaned up after.

    Anything else is a defect: a traceback and exit code 3, which no build system takes for "differs".
    """
    before = signal.signal(signal.SIGTERM, interrupt)
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
    except MemoryError as error:
        complain("there is not enough memory for this. Close other programs, or take a machine with more")
        raise typer.Exit(BAD_INPUT) from error
    except Exception as error:
        Console(stderr=True).print_exception()
        complain("this is a defect of dlm-export, not of your files. Please report it with the lines above")
        raise typer.Exit(DEFECT) from error
    except KeyboardInterrupt:
        Console(stderr=True).print(f"interrupted; {stopped}")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Treat SIGTERM as Ctrl-C."""
    raise KeyboardInterrupt


def complain(sentence: str) -> None:
    """An error on stderr, in one line however narrow the terminal is."""
    Console(stderr=True).print(f"[red]error[/] {escape(sentence)}", soft_wrap=True, highlight=False)
