"""A `dlm-serve` in a process of its own, as a game would have beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from dlm_runtime.errors import DlmError

SHUTDOWN_S = 15.0
_LAST_BREATH_S = 0.5  # between the end of a connection and the end of the process behind it
_LAST_WORDS_CHARS = 2000
_UTF8 = {"PYTHONIOENCODING": "utf-8:backslashreplace"}


class HostError(DlmError):
    """The server did not start, or ended by itself; the message holds what it said."""


@contextmanager
def server(arguments: Sequence[str] = ()) -> Iterator[str]:
    """Start `dlm-serve` on a free loopback port and yield its address; it is told to drain and stop on leaving.

    It lives no longer than this process, however that ends: its standard input closes then.
    Raises `HostError` with the server's own words when it exits before it listens, or before the block is left.
    """
    command = [sys.executable, "-m", "dlm_runtime.cli.serve", "--port", "0", "--json-logs", "--until-stdin-closes", *arguments]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, encoding="utf-8", env=os.environ | _UTF8)
        try:
            yield _address(process, log)
        except HostError:
            raise
        except Exception as error:
            if _has_ended(process):
                raise _last_words(process, log, "while it was needed") from error
            raise
        finally:
            _stop(process)


def _address(process: subprocess.Popen[str], log: IO[str]) -> str:
    for line in process.stdout or ():
        entry = _json(line)
        if entry.get("event") == "listening":
            return f"{entry['host']}:{entry['port']}"
    process.wait()
    raise _last_words(process, log, "before it listened")


def _has_ended(process: subprocess.Popen[str]) -> bool:
    try:
        process.wait(_LAST_BREATH_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _last_words(process: subprocess.Popen[str], log: IO[str], when: str) -> HostError:
    log.seek(0)
    words = log.read().strip()[-_LAST_WORDS_CHARS:]
    return HostError(f"dlm-serve ended with exit code {process.returncode} {when}{': ' if words else ''}{words}")


def _stop(process: subprocess.Popen[str]) -> None:
    """Closes the server's standard input, which stops it gently on every system, and ends it by force when it does not listen."""
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()
    try:
        process.wait(SHUTDOWN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _json(line: str) -> dict:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}
