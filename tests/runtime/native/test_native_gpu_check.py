"""`dlm-bench gpu-check` with a native engine, on the pretended card: what a person with a real one would see."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from dlm_runtime.bundle import Bundle, PlanProfile
from dlm_runtime.cli.bench import app
from dlm_runtime.engines.native.libraries import PLUGIN_VARIABLE
from dlm_runtime.gpu_check.machine import Machine
from typer.testing import CliRunner

SIZES = {"B": (1, 4, 8), "L": (1, 8, 256), "P": (0, 32, 256), "W": (1, 8, 64), "G": (1, 2, 8), "R": (0, 0, 64), "S": (1, 8, 64)}


@pytest.fixture
def bundle_path(bundle_with_plan, golden_bundle_path: Path, tmp_path: Path) -> Path:
    return bundle_with_plan(golden_bundle_path, tmp_path / "bundle", built=(PlanProfile(name="all", dimensions=SIZES),)).path


def run(bundle: Path, folder: Path, *more: str) -> tuple[int, dict[str, tuple[str, str]], str]:
    """Exit code, outcome and detail of every check of the native engine, and the report."""
    report, data = folder / "report.md", folder / "report.json"
    options = ["gpu-check", "--bundle", bundle, "--engine", "native", "--lines", "3", "--max-rows", "9", "--repeats", "3", "--threads", "1"]
    result = CliRunner().invoke(app, [str(part) for part in [*options, *more, "--out", report, "--json", data]])
    checks = json.loads(data.read_text(encoding="utf-8"))["checks"]
    found = {check["name"]: (check["state"], check["detail"]) for check in checks if check["group"] == "native"}
    return result.exit_code, found, report.read_text(encoding="utf-8")


def test_a_good_card_passes(card, bundle_path: Path, tmp_path: Path) -> None:
    code, found, report = run(bundle_path, tmp_path)
    assert {name: detail for name, (state, detail) in found.items() if state != "passed"} == {}
    assert code == 0
    assert "Pretend RTX, CUDA graphs" in found["loads"][1]
    assert "captured" in found["timings"][1]
    assert "| cpu ms | native ms | cpu / native |" in report


def test_a_card_that_computes_nonsense_fails(card, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = card.cuda.cudaMemcpyAsync

    def broken(to: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:
        return copy(to, source, size // 2, kind, stream)  # half of everything does not arrive

    monkeypatch.setattr(card.cuda, "cudaMemcpyAsync", broken)
    code, found, report = run(bundle_path, tmp_path)
    assert code == 1
    assert found["step: denoise"][0] == found["step: verify"][0] == "failed"
    assert "**FAILED**" in report


def test_plans_are_built_and_checked_without_and_with_the_plugin(
    card, bundle_with_plan, golden_bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PLUGIN_VARIABLE, raising=False)
    library = tmp_path / "libdlm_unmask_tensorrt.so"
    library.write_bytes(b"")
    card.trt.plugins[str(library)] = True

    def build(bundle: Bundle, place: Path, plugin: Path | None = None) -> tuple[Bundle, str]:
        name = None if plugin is None else plugin.name
        return bundle_with_plan(bundle.path, place, built=(PlanProfile(name="all", dimensions=SIZES),), plugin=name), "built"

    monkeypatch.setattr("dlm_runtime.gpu_check.run.build_plan", build)
    code, found, report = run(golden_bundle_path, tmp_path, "--build", "--plugin", str(library))
    assert code == 0, report
    assert found["builds"] == ("passed", "built")
    assert "| native, plugin | step: verify | passed |" in report
    assert "| cpu ms | native ms | native, plugin ms |" in report
    assert PLUGIN_VARIABLE not in os.environ


def test_cards_are_named_as_cuda_names_them(card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, **where: None)
    card.cuda.devices = 0
    assert Machine.here().gpus == ()
    assert Machine.here().gpu_note == "CUDA finds no card"
    card.cuda.failing["cudaGetDeviceCount"] = 35
    assert "driver version is insufficient" in Machine.here().gpu_note
    card.cuda.failing.clear()
    card.cuda.devices = 1
    assert Machine.here().gpus == ("Pretend RTX, compute capability 8.9, 16376 MiB, driver for CUDA 13",)
