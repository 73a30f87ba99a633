"""A bundle is whole or absent, whatever happens on the way, and what stood there before is not lost."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from dlm_export import exporting
from dlm_export.cli import app
from dlm_export.errors import CheckpointError, OutputError
from dlm_export.export_options import ExportOptions
from dlm_export.exporting import export_bundle
from dlm_export.graph.weight_file import WeightFile
from dlm_export.verify import verify_bundle
from dlm_export.weights import WeightReader
from dlm_runtime.bundle import Bundle
from typer.testing import CliRunner

LAST_TENSOR = "diffusion_head.weight"  # that the graph of Nemotron asks for
MIDDLE = 12
NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


def leftovers(out: Path) -> list[str]:
    """What lies beside the bundle."""
    return sorted(entry.name for entry in out.parent.iterdir()) if out.parent.exists() else []


def test_existing_folder_is_left_alone(golden_checkpoint: Path, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "diary.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match=r"is not empty\. Choose another --out, or replace the bundle there with --force"):
        export_bundle(golden_checkpoint, out)
    with pytest.raises(OutputError, match=r"holds no bundle's manifest\.json, so --force does not replace it"):
        export_bundle(golden_checkpoint, out, force=True)
    assert (out / "diary.txt").read_text(encoding="utf-8") == "mine"


def test_file_in_the_way(golden_checkpoint: Path, out: Path) -> None:
    out.parent.mkdir()
    out.write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="exists and is not a folder"):
        export_bundle(golden_checkpoint, out, force=True)


def test_parent_that_is_a_file(golden_checkpoint: Path, out: Path) -> None:
    out.parent.write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be written"):
        export_bundle(golden_checkpoint, out)


def test_empty_folder_is_used_and_force_replaces_a_bundle(golden_checkpoint: Path, out: Path) -> None:
    out.mkdir(parents=True)
    export_bundle(golden_checkpoint, out, ExportOptions(name="first"))
    (out / "stale.txt").write_text("old", encoding="utf-8")
    export_bundle(golden_checkpoint, out, ExportOptions(name="second"), force=True)
    assert Bundle.load(out).manifest.name == "second"
    assert leftovers(out) == ["bundle"]
    assert not (out / "stale.txt").exists()


def test_broken_weights_leave_nothing(checkpoint: Any, out: Path) -> None:
    checkpoint.tensors(lambda tensors: tensors.pop("encoder.norm.weight"))
    with pytest.raises(CheckpointError, match=r"encoder\.norm\.weight: is missing"):
        export_bundle(checkpoint.path, out)
    assert leftovers(out) == []


def test_force_spares_other_programs_manifests(golden_checkpoint: Path, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "manifest.json").write_text('{"name": "a web page"}', encoding="utf-8")
    with pytest.raises(OutputError, match=r"holds no bundle's manifest\.json"):
        export_bundle(golden_checkpoint, out, force=True)


def test_force_spares_a_checkpoint_inside_the_bundle(checkpoint: Any, out: Path) -> None:
    export_bundle(checkpoint.path, out)
    inside = checkpoint.path.rename(out / "source")
    with pytest.raises(OutputError, match="is or holds the checkpoint"):
        export_bundle(inside, out, force=True)
    assert (inside / "config.json").is_file()


def test_name_that_no_file_system_takes(golden_checkpoint: Path, out: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        export_bundle(golden_checkpoint, out / ("x" * 300))


def fail_after(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, problem: BaseException, *, calls: int) -> None:
    """Let `owner.name` work so many times, then raise."""
    work, done = getattr(owner, name), []

    def failing(*arguments: Any, **options: Any) -> Any:
        if len(done) == calls:
            raise problem
        done.append(1)
        return work(*arguments, **options)

    monkeypatch.setattr(owner, name, failing)


def break_weights(monkeypatch: pytest.MonkeyPatch, problem: BaseException) -> None:
    fail_after(monkeypatch, WeightReader, "read", problem, calls=MIDDLE)


def break_weight_file(monkeypatch: pytest.MonkeyPatch, problem: BaseException) -> None:
    monkeypatch.setattr(exporting, "INLINE_LIMIT_NUMBERS", 0)
    fail_after(monkeypatch, WeightFile, "append", problem, calls=5)


def break_model_file(monkeypatch: pytest.MonkeyPatch, problem: BaseException) -> None:
    fail_after(monkeypatch, onnx, "save_model", problem, calls=0)


def break_manifest(monkeypatch: pytest.MonkeyPatch, problem: BaseException) -> None:
    fail_after(monkeypatch, exporting, "write_manifest", problem, calls=0)


BREAKS = [break_weights, break_weight_file, break_model_file, break_manifest]
PROBLEMS = [KeyboardInterrupt(), NO_SPACE, MemoryError(), RuntimeError("boom")]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: type(problem).__name__)
@pytest.mark.parametrize("break_it", BREAKS)
def test_interrupted_export_leaves_nothing(
    golden_checkpoint: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[[pytest.MonkeyPatch, BaseException], None],
    problem: BaseException,
) -> None:
    break_it(monkeypatch, problem)
    with pytest.raises(OutputError if isinstance(problem, OSError) else type(problem)):
        export_bundle(golden_checkpoint, out)
    assert leftovers(out) == []


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: type(problem).__name__)
@pytest.mark.parametrize("break_it", BREAKS)
def test_interrupted_replacement_keeps_the_old_bundle(
    checkpoint: Any,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[[pytest.MonkeyPatch, BaseException], None],
    problem: BaseException,
) -> None:
    export_bundle(checkpoint.path, out, ExportOptions(name="old"))
    break_it(monkeypatch, problem)
    with pytest.raises(OutputError if isinstance(problem, OSError) else type(problem)):
        export_bundle(checkpoint.path, out, ExportOptions(name="new"), force=True)
    assert Bundle.load(out).manifest.name == "old"
    assert leftovers(out) == ["bundle"]


@pytest.mark.parametrize("external", [False, True])
def test_a_nan_in_the_last_tensor_leaves_nothing_and_loses_nothing(
    checkpoint: Any, out: Path, monkeypatch: pytest.MonkeyPatch, external: bool
) -> None:
    if external:
        monkeypatch.setattr(exporting, "INLINE_LIMIT_NUMBERS", 0)
    intact = out.with_name("intact")
    export_bundle(checkpoint.path, intact, ExportOptions(name="old"))
    checkpoint.tensors(lambda tensors: tensors[LAST_TENSOR].view(-1)[-1].fill_(np.nan))
    for force in (False, True):
        with pytest.raises(CheckpointError, match=rf"{LAST_TENSOR}: holds 1 NaN or infinite values"):
            export_bundle(checkpoint.path, intact if force else out, force=force)
    assert leftovers(out) == ["intact"]
    assert Bundle.load(intact).manifest.name == "old"
    checkpoint.tensors(lambda tensors: tensors[LAST_TENSOR].view(-1)[-1].zero_())
    assert not verify_bundle(intact, checkpoint.path).passed  # it is the old one, of the old weights


def test_a_rename_that_fails_puts_the_old_bundle_back(checkpoint: Any, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_bundle(checkpoint.path, out, ExportOptions(name="old"))
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if ".partial-" in self.name:
            raise PermissionError(errno.EACCES, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match="Permission denied"):
        export_bundle(checkpoint.path, out, force=True)
    assert leftovers(out) == ["bundle"]
    assert Bundle.load(out).manifest.name == "old"


def test_interrupt_exits_with_130(golden_checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_weights(monkeypatch, KeyboardInterrupt())
    result = CliRunner().invoke(app, [str(golden_checkpoint), "--out", str(out)])
    assert result.exit_code == 130
    assert "interrupted; nothing was written" in result.stderr
    assert leftovers(out) == []


def test_no_space_and_no_memory_exit_with_2(golden_checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for problem, words in ((NO_SPACE, "No space left on device"), (MemoryError(), "not enough memory")):
        with monkeypatch.context() as patch:
            break_weight_file(patch, problem)
            result = CliRunner().invoke(app, [str(golden_checkpoint), "--out", str(out)])
        assert result.exit_code == 2
        assert words in result.stderr
        assert result.stderr.startswith("error ")
        assert leftovers(out) == []


@pytest.mark.parametrize(("number", "old"), [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, False)])
def test_a_signal_in_the_middle_of_the_weights(checkpoint: Any, out: Path, number: signal.Signals, old: bool) -> None:
    """A real process that sends the signal to itself when it has read some weights and written some of them to their file."""
    program = f"""
import os, sys
from dlm_export import exporting
from dlm_export.cli import app
from dlm_export.weights import WeightReader
read = WeightReader.read
def counting(self, name):
    if len(self.read_keys) == {MIDDLE}:
        folder, = (entry.path for entry in os.scandir(os.path.dirname(sys.argv[3])) if ".partial-" in entry.name)
        assert os.path.exists(folder + "/model.onnx.data")
        os.kill(os.getpid(), {number.value})
    return read(self, name)
WeightReader.read = counting
exporting.INLINE_LIMIT_NUMBERS = 0
app(sys.argv[1:])
"""
    if old:
        export_bundle(checkpoint.path, out, ExportOptions(name="old"))
    command = [sys.executable, "-c", program, str(checkpoint.path), "--out", str(out), *(["--force"] if old else [])]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 130, result.stderr
    assert result.stderr == "interrupted; nothing was written\n"
    assert leftovers(out) == (["bundle"] if old else [])
    if old:
        assert Bundle.load(out).manifest.name == "old"
