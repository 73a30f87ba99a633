"""A `dlm-serve` in a process of its own, as a game would have beside it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from dlm_runtime.errors import DlmError

SHUTDOWN_S = 15.0


class HostError(DlmError):
    """The server did not start; the message holds what it said."""


@contextmanager
def server(arguments: Sequence[str] = ()) -> Iterator[str]:
    """Start `dlm-serve` on a free loopback port and yield its address; it is told to drain and stop on leaving.

    Raises `HostError` with the server's own words when it exits before it listens.
    """
    command = [sys.executable, "-m", "dlm_runtime.cli.serve", "--port", "0", "--json-logs", *arguments]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            yield _address(process, log)
        finally:
            process.terminate()
            try:
                process.wait(SHUTDOWN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()


def _address(process: subprocess.Popen[str], log: IO[str]) -> str:
    for line in process.stdout or ():
        entry = _json(line)
        if entry.get("event") == "listening":
            return f"{entry['host']}:{entry['port']}"
    process.wait()
    log.seek(0)
    raise HostError(log.read().strip() or f"dlm-serve ended with exit code {process.returncode} before it listened")


def _json(line: str) -> dict:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}
