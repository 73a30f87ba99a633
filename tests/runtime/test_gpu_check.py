"""`dlm-bench gpu-check`: it notices what is wrong, skips with reasons what cannot be checked, and says so in its report and exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from dlm_runtime.bundle import Bundle
from dlm_runtime.cli.bench import app
from dlm_runtime.engines import StepBatch, StepResult
from dlm_runtime.engines.provider import PROVIDERS
from dlm_runtime.gpu_check import kernels, machine
from dlm_runtime.gpu_check.batches import KINDS
from dlm_runtime.gpu_check.check import Check, CheckFailed, Checks, Skipped
from dlm_runtime.gpu_check.kernels import cuda_core, triton, write_vectors
from dlm_runtime.gpu_check.lines import Lines, Script
from dlm_runtime.gpu_check.machine import Machine
from dlm_runtime.gpu_check.parity import check_step
from dlm_runtime.gpu_check.plans import build_plan
from dlm_runtime.gpu_check.report import Report, cell
from dlm_runtime.gpu_check.timings import FEWEST, Shape, Timing, time_shape
from typer.testing import CliRunner, Result

SMALL = ("--lines", "2", "--max-rows", "2", "--repeats", "3", "--threads", "1")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with plain onnxruntime and no card, whatever there is."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    for module in ("tensorrt_rtx", *(provider.plugin_module for provider in PROVIDERS.values() if provider.plugin_module)):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(machine, "_gpus", lambda: ((), "none was looked for"))
    monkeypatch.setattr(kernels, "triton", no_triton)
    monkeypatch.setattr("dlm_runtime.gpu_check.run.triton", no_triton)


def no_triton(vectors: object) -> str:
    raise Skipped("no card")


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in ("gpu-check", *arguments)])


class Spoilt:
    """An engine one of whose outputs is changed."""

    def __init__(self, engine: Any, what: str, change: Callable[[np.ndarray], None]) -> None:
        self.manifest = engine.manifest
        self._engine, self._what, self._change = engine, what, change

    def step(self, batch: StepBatch) -> StepResult:
        result = self._engine.step(batch)
        value = getattr(result, self._what).copy()
        self._change(value if self._what != "present" else value.arrays[0])
        return replace(result, **{self._what: value})

    def close(self) -> None:
        """Nothing of its own."""


def put(place: Any, value: float) -> Callable[[np.ndarray], None]:
    def change(array: np.ndarray) -> None:
        array[place] = value

    return change


def test_everything_on_a_machine_without_a_card(bare: None, golden_bundle_path: Path, tmp_path: Path) -> None:
    data = tmp_path / "report.json"
    result = bench("--bundle", golden_bundle_path, "--json", data, *SMALL)
    assert result.exit_code == 0, result.output
    report = json.loads(data.read_text(encoding="utf-8"))
    states = {(check["group"], check["name"]): check["state"] for check in report["checks"]}
    assert {name for (group, name), state in states.items() if group == "cpu" and state == "passed"} >= {
        "loads",
        *(f"step: {kind}" for kind in KINDS),
        *(f"lines: {mode}" for mode in ("diffusion", "self_speculation", "ar")),
        "lines: twice",
        "lines: alone and in company",
        "timings",
    }
    for engine in ("cuda", "tensorrt-rtx", "directml", "webgpu", "native"):
        assert states[engine, "loads"] == "skipped"
    assert result.stdout.startswith("## dlm-bench gpu-check: ")
    assert "| GPU | none (none was looked for) |" in result.stdout
    assert "holds no TensorRT plan" in result.stdout
    assert "| denoise | 2 |" in result.stdout
    assert "skipped  cuda: loads" in result.stderr
    assert {timing["engine"] for timing in report["timings"]} == {"cpu"}
    assert report["machine"]["packages"]["numpy"] == np.__version__


def test_an_engine_that_was_asked_for_and_does_not_load_is_a_failure(bare: None, golden_bundle_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.md"
    result = bench("--bundle", golden_bundle_path, "--engine", "cuda", "--out", out, *SMALL)
    assert result.exit_code == 1
    assert "1 failed" in result.stderr
    assert "| cuda | loads | **FAILED** | EngineError: engine cuda cannot be used" in out.read_text(encoding="utf-8")
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bundle", "nowhere"), "nowhere: is not a folder"),
        (("--engine", "auto"), "'auto' is no engine to check; give one of cpu, cuda"),
        (("--engine", "rocm"), "'rocm' is no engine to check"),
        (("--plugin", __file__), "give --build too"),
        (("--plugin", "nowhere.so", "--build"), "does not exist"),
        (("--out", "nowhere/report.md"), "cannot be written"),
        (("--json", "."), "cannot be written"),
        (("--lines", "0"), "--lines"),
    ],
)
def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    result = bench(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.output


def test_help_says_what_to_run_and_what_exit_codes_mean() -> None:
    assert "dlm-bench gpu-check --build" in " ".join(CliRunner().invoke(app, ["--help"]).stdout.split())
    assert "Exit codes: 0 nothing failed, 1 a check failed, 2 bad input" in " ".join(bench("--help").stdout.split())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("what", "change", "message"),
    [
        ("logits", put((0, 0, 7), 99.0), "logits differ by"),
        ("logits", put((1, 0, 3), np.nan), "logits are not finite"),
        ("sampled_ids", put((0, 0), 255), "sampled tokens are not what its own logits say"),
        ("canvas", put((0, 0), 201), "canvas positions are not"),
        ("committed", put(2, 77), "counts of committed tokens are not"),
        ("confidence", put((2, 0), 3.5), "confidences are not"),
        ("entropy", put((2, 0), 30.0), "entropies are not"),
    ],
)
def test_a_step_that_is_wrong_in_one_place_is_noticed(golden_engine, kind: str, what: str, change: Any, message: str) -> None:
    with pytest.raises(CheckFailed, match=message):
        check_step(kind, Spoilt(golden_engine, what, change), golden_engine)


@pytest.mark.parametrize(("value", "message"), [(99.0, "keys and values differ"), (np.inf, "numbers that are not finite")])
def test_wrong_keys_are_noticed(golden_engine, value: float, message: str) -> None:
    with pytest.raises(CheckFailed, match=message):
        check_step("verify", Spoilt(golden_engine, "present", put((1, 0, 2, 0, 0, 0), value)), golden_engine)


def test_rounding_is_no_error(golden_engine) -> None:
    def round_(logits: np.ndarray) -> None:
        logits += np.float32(1e-6) * logits

    assert "decisions follow from its logits" in check_step(
        "denoise, shaped logits", Spoilt(golden_engine, "logits", round_), golden_engine
    )


def test_lines_that_differ_are_told_with_their_place(golden_engine, golden_bundle_path: Path) -> None:
    script = Script.of(Bundle.load(golden_bundle_path), 3)
    assert script.source.startswith("random words, as ")
    lines = Lines(golden_engine, script)
    assert "all the same" in lines.as_on_the_cpu(golden_engine, "ar")

    def change(sampled: np.ndarray) -> None:
        sampled[...] = np.where(sampled % 5 == 0, 150, sampled)

    with pytest.raises(CheckFailed, match=r"\d of 3 lines differ; in line \d token \d+ is \S+, not "):
        lines.as_on_the_cpu(Spoilt(golden_engine, "sampled_ids", change), "ar")


def test_lines_of_an_engine_that_draws_otherwise_each_time(golden_engine, golden_bundle_path: Path) -> None:
    rng = np.random.default_rng(0)

    def change(sampled: np.ndarray) -> None:
        sampled[...] = rng.integers(101, 256, sampled.shape)

    lines, engine = Lines(golden_engine, Script.of(Bundle.load(golden_bundle_path), 3)), Spoilt(golden_engine, "sampled_ids", change)
    with pytest.raises(CheckFailed, match="the second time"):
        lines.twice(engine, "ar")
    with pytest.raises(CheckFailed, match="in company"):
        lines.alone_and_in_company(engine, "ar")
    with pytest.raises(CheckFailed, match="lines differ"):
        lines.speculation_as_autoregression(engine)


def test_a_check_ends_in_an_outcome_whatever_it_raises() -> None:
    seen: list[Check] = []
    checks = Checks(on_end=seen.append)
    assert checks.run("a", "good", lambda: "fine")

    def bad() -> str:
        raise KeyError("gone")

    assert not checks.run("a", "bad", bad)
    checks.skip("a", "no", "there is\nno card")
    assert [(one.state, one.detail) for one in seen] == [
        ("passed", "fine"),
        ("failed", "KeyError: 'gone'"),
        ("skipped", "there is no card"),
    ]
    assert (checks.count("passed"), checks.count("failed"), checks.count("skipped")) == (1, 1, 1)


def test_the_report_gives_ratios_to_the_cpu_and_escapes_what_would_break_a_table(golden_engine) -> None:
    shape = Shape("denoise", 8, 32, 128)
    timings = tuple(Timing(name, shape, ms, ms, ms, 3) for name, ms in (("cpu", 40.0), ("cuda", 2.5)))
    here = replace(Machine.here(), gpus=("Card | one",))
    checks = (Check("cuda", "loads", "passed", "a | b\nc"),)
    report = Report(here, golden_engine.manifest, "ab" * 32, "words", checks, timings, 4.0)
    text = report.to_markdown()
    assert "| step | rows | tokens | past | cpu ms | cuda ms | cpu / cuda |" in text
    assert "| denoise | 8 | 32 | 128 | 40.00 | 2.50 | 16.0 |" in text
    assert "| cuda | loads | passed | a \\| b c |" in text
    assert "| GPU | Card \\| one |" in text
    assert json.loads(json.dumps(report.to_json()))["timings"][1]["shape"]["past"] == shape.past
    assert cell("x|y") == "x\\|y"


def test_slow_shapes_are_not_repeated_for_ever(golden_engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlm_runtime.gpu_check.timings._SLOW_S", 0.0)
    assert time_shape("cpu", golden_engine, Shape("denoise", 2, 8, 16), 500).runs == FEWEST


def test_cards_are_named_as_nvidia_smi_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "NVIDIA GeForce RTX 4090, 8.9, 24564 MiB, 581.15\n"
    monkeypatch.setattr(machine.shutil, "which", lambda name: "nvidia-smi")
    monkeypatch.setattr(machine.subprocess, "run", lambda *arguments, **options: SimpleNamespace(stdout=told))
    assert Machine.here().gpus == ("NVIDIA GeForce RTX 4090, compute capability 8.9, 24564 MiB, driver 581.15",)

    def broken(*arguments: Any, **options: Any) -> Any:
        raise subprocess.CalledProcessError(9, "nvidia-smi")

    monkeypatch.setattr(machine.subprocess, "run", broken)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    assert Machine.here().gpus == ()
    assert Machine.here().gpu_note == "nvidia-smi finds no card, and cuda-python is not installed"


def test_kernels_are_skipped_with_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = write_vectors(tmp_path)
    assert len(vectors) > 20
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    with pytest.raises(Skipped, match=r"torch is not installed: pip install 'dlm-npc\[triton\]'"):
        triton(vectors)
    monkeypatch.setattr(kernels.shutil, "which", lambda name, **where: None)
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    with pytest.raises(Skipped, match="nvcc is not installed"):
        cuda_core(vectors, tmp_path, has_card=True)
    monkeypatch.setattr(kernels.shutil, "which", lambda name, **where: "nvcc")
    with pytest.raises(Skipped, match="there is no NVIDIA card"):
        cuda_core(vectors, tmp_path, has_card=False)


@pytest.mark.parametrize(
    ("compiles", "code", "raised", "message"),
    [
        (1, 0, CheckFailed, "nvcc ends with code 1"),
        (0, 77, Skipped, "finds no card"),
        (0, 1, CheckFailed, "canvas differs"),
        (0, 0, None, ""),
    ],
)
def test_the_cuda_core_is_judged_by_its_test_program(
    tmp_path: Path, monkeypatch, compiles: int, code: int, raised: Any, message: str
) -> None:
    def run(command: list[str], **options: Any) -> Any:
        compiling = command[0] == "nvcc"
        return SimpleNamespace(returncode=compiles if compiling else code, stdout="" if compiling else "canvas differs", stderr="")

    monkeypatch.setattr(kernels.shutil, "which", lambda name, **where: "nvcc")
    monkeypatch.setattr(kernels.subprocess, "run", run)
    if raised is None:
        assert cuda_core([tmp_path / "one.bin"], tmp_path, has_card=True) == "1 cases are right, twice the same bits"
        return
    with pytest.raises(raised, match=message):
        cuda_core([tmp_path / "one.bin"], tmp_path, has_card=True)


def test_plans_are_not_built_without_a_builder(golden_bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.load(golden_bundle_path)
    monkeypatch.setattr("dlm_runtime.gpu_check.plans.find_spec", lambda name: None)
    with pytest.raises(Skipped, match="takes the exporter"):
        build_plan(bundle, tmp_path / "copy")
    monkeypatch.setattr("dlm_runtime.gpu_check.plans.find_spec", lambda name: True if name in ("onnx", "torch") else None)
    with pytest.raises(Skipped, match="neither tensorrt-rtx nor tensorrt is installed"):
        build_plan(bundle, tmp_path / "copy")


def test_a_plan_is_built_in_a_copy(golden_bundle_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    bundle = Bundle.load(golden_bundle_path)
    built, sentence = build_plan(bundle, tmp_path / "copy")
    assert "MB by tensorrt_rtx" in sentence
    assert any(target.plans for target in built.manifest.targets)
    assert not any(target.plans for target in Bundle.load(golden_bundle_path).manifest.targets)
