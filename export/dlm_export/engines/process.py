"""Runs the process that builds an engine, and tells what became of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from .engine_options import NO_PLUGIN
from .errors import EngineError, last_words, refusal
from .job import BuildJob
from .outcome import BuildOutcome

MODULE = "dlm_export.engines.build_process"
LIBRARY_PACKAGES = ("tensorrt_rtx_libs", "tensorrt_libs")
SHORT_NAME = {"tensorrt_rtx": "libtensorrt_rtx.so", "tensorrt": "libnvinfer.so"}


def run_build(job: BuildJob, timeout_s: float) -> BuildOutcome:
    """Build, and return the outcome of an engine that is there.

    Raises EngineError for all others: nodes refused, nothing built, time over, or the process killed by a signal, as the library's parser
    and builder may do to it. The process never outlives this call.
    """
    graph = Path(job.model).name
    with TemporaryDirectory(prefix="dlm-engine-") as place:
        file, said = Path(place) / "job.json", Path(place) / "said.txt"
        job.write(file)
        with said.open("wb") as stream, library_folder(job, Path(place)) as environment:
            try:
                done = subprocess.run(
                    [sys.executable, "-m", MODULE, str(file)],
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **environment},
                    timeout=timeout_s,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                problem = f"{graph}: the engine was not built within {timeout_s:g} s. Give more with --build-timeout"
                raise EngineError(f"{problem}. {last_words(lines_of(said))}") from None
        return judged(graph, done.returncode, outcome_of(Path(job.outcome)), lines_of(said))


def judged(graph: str, code: int, outcome: BuildOutcome | None, lines: list[str]) -> BuildOutcome:
    """The outcome of an engine that is there. Raises EngineError for any other end."""
    if outcome is not None and outcome.state == "refused":  # it may have died of looking for more
        raise refusal(graph, outcome.refused)
    if code < 0:
        stage = "parsing" if outcome is None else "building"
        raise EngineError(f"{graph}: the builder's process was killed by {signal_name(-code)} while {stage}. {last_words(lines)}")
    if code > 0 or outcome is None:
        raise EngineError(f"{graph}: the builder's process ended with code {code}. {last_words(lines)}")
    if outcome.state != "built":
        raise EngineError(f"{graph}: the builder made no engine. {last_words(list(outcome.lines))}")
    return outcome


def signal_name(number: int) -> str:
    """`signal 11 (SIGSEGV)`."""
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def outcome_of(file: Path) -> BuildOutcome | None:
    """What the process wrote, if it came that far."""
    return BuildOutcome.from_json(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


def lines_of(file: Path) -> list[str]:
    """What the process said."""
    return file.read_text(encoding="utf-8", errors="replace").splitlines()


@contextmanager
def library_folder(job: BuildJob, place: Path) -> Iterator[Mapping[str, str]]:
    """Environment for the process.

    As soon as a plugin is involved, the parser of TensorRT for RTX 1.7.1 opens its library without the version in its name, which the
    wheel does not have, and aborts where it is not found. So it gets a link of that name in a folder of its own.
    """
    library = versioned_library(SHORT_NAME[job.module]) if job.plugin != NO_PLUGIN and job.module in SHORT_NAME else None
    if library is None or os.name != "posix":
        yield {}
        return
    folder = place / "lib"
    folder.mkdir()
    (folder / SHORT_NAME[job.module]).symlink_to(library)
    before = os.environ.get("LD_LIBRARY_PATH")
    yield {"LD_LIBRARY_PATH": f"{folder}{os.pathsep}{before}" if before else str(folder)}


def versioned_library(short_name: str) -> Path | None:
    """The library of a wheel, such as libtensorrt_rtx.so.1, if there is one."""
    for package in LIBRARY_PACKAGES:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for file in sorted(Path(folder).glob(f"{short_name}.*")):
                return file
    return None
