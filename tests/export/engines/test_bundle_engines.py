"""A bundle gets engines whole or not at all, whatever the library does. The library is a stand-in; test_rtx_engines.py has the real one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dlm_export.bundle_engines import add_engines
from dlm_export.cli import app
from dlm_export.engines import builders
from dlm_export.engines.builders import Builder
from dlm_export.engines.engine_options import EngineOptions
from dlm_export.engines.errors import EngineError
from dlm_export.errors import OptionError
from dlm_export.export_options import ExportOptions
from dlm_export.exporting import export_bundle
from dlm_runtime.bundle import Bundle, Precision
from dlm_runtime.errors import BundleError
from typer.testing import CliRunner

LIBRARY = """
from types import SimpleNamespace as N

__version__ = "1.0"
NetworkDefinitionCreationFlag = N(STRONGLY_TYPED=0)
ComputeCapability = N(SM86=86)
BuilderFlag = N(TF32=7)

class ILogger:
    WARNING = 2
    def __init__(self): pass

class Builder:
    def __init__(self, logger): self.logger = logger
    def create_network(self, flags): return N(num_layers=1, get_layer=lambda i: N(name="x", type="LayerType.SHUFFLE"), num_inputs=0)
    def create_builder_config(self):
        nothing = lambda *given: None
        return N(set_compute_capability=nothing, add_optimization_profile=nothing, clear_flag=nothing)
    def create_optimization_profile(self): return N()
    def build_serialized_network(self, network, config): WHAT

class OnnxParser:
    def __init__(self, network, logger): self.network, self.num_errors = network, 0
    def parse_from_file(self, path):
        self.network.file = path
        return True
"""
BUILDS = 'return b"an engine"'


@pytest.fixture
def bundle(golden_checkpoint: Path, out: Path) -> Path:
    """A bundle that may be changed, beside which there is nothing."""
    export_bundle(golden_checkpoint, out, ExportOptions(target="tensorrt-rtx"))
    return out


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], EngineOptions]:
    """Puts a library in TensorRT's place that builds as the given statement says."""

    def put(what: str) -> EngineOptions:
        place = tmp_path / "library"
        place.mkdir(exist_ok=True)
        (place / "stand_in_library.py").write_text(LIBRARY.replace("WHAT", what), encoding="utf-8")
        monkeypatch.syspath_prepend(str(place))
        monkeypatch.setenv("PYTHONPATH", str(place))
        builder = Builder("tensorrt-rtx", "Stand-in", "stand_in_library", ("86",))
        monkeypatch.setitem(builders.BUILDERS, "tensorrt-rtx", builder)
        return EngineOptions(builder, ("86",))

    return put


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def dlm_export(*words: Any) -> Any:
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, [str(word) for word in words])


def test_engines_are_added(bundle: Path, library: Callable[[str], EngineOptions]) -> None:
    before = contents(bundle)
    added = add_engines(bundle, library(BUILDS), loop=True)
    loaded = Bundle.load(bundle)
    assert loaded.manifest == added.manifest
    (target,) = loaded.manifest.targets
    assert (target.file, target.block_file) == ("model.onnx", "block.onnx")
    assert [(plan.graph, plan.file, plan.compute_capabilities) for plan in target.plans] == [
        ("model.onnx", "engines/model.plan", ("86",)),
        ("block.onnx", "engines/block.plan", ("86",)),
    ]
    assert [profile.name for profile in target.plans[0].profiles] == ["prefill", "denoise", "autoregression"]
    assert (bundle / "engines/model.plan").read_bytes() == b"an engine"
    assert (bundle / "engines/model.layers.txt").read_text(encoding="utf-8") == "SHUFFLE\tx\n"
    assert {"engines/report.json", "engines/model.plan", "engines/block.plan", "engines/block.layers.txt"} <= loaded.manifest.files.keys()
    report = json.loads((bundle / "engines/report.json").read_text(encoding="utf-8"))
    assert report["engines"][0]["plan_bytes"] == 9
    assert contents(bundle).keys() - before.keys() == {
        *("block.onnx", "model.onnx.data", "engines/report.json", "engines/model.plan", "engines/model.layers.txt"),
        *("engines/block.plan", "engines/block.layers.txt"),
    }
    assert list(bundle.parent.iterdir()) == [bundle]


def test_engines_are_replaced(bundle: Path, library: Callable[[str], EngineOptions]) -> None:
    add_engines(bundle, library(BUILDS), loop=True)
    add_engines(bundle, library('return b"another"'))
    manifest = Bundle.load(bundle).manifest
    assert len(manifest.targets[0].plans) == 2  # the block graph is there, so it gets its engine again
    assert (bundle / "engines/block.plan").read_bytes() == b"another"


def test_a_bundle_for_onnx_runtime_gets_a_target_more(golden_checkpoint: Path, out: Path, library: Callable[[str], EngineOptions]) -> None:
    export_bundle(golden_checkpoint, out)
    add_engines(out, library(BUILDS))
    first, second = Bundle.load(out).manifest.targets
    assert (first.engine, first.file, first.plans) == ("onnxruntime", "model.onnx", ())
    assert (second.engine, second.file, len(second.plans)) == ("tensorrt-rtx", "model.onnx", 1)


@pytest.mark.parametrize("what", ["return None", "raise RuntimeError('odd')", "import os; os.abort()"])
def test_a_failed_build_changes_nothing(bundle: Path, library: Callable[[str], EngineOptions], what: str) -> None:
    before = contents(bundle)
    with pytest.raises(EngineError, match=r"model\.onnx: the builder"):
        add_engines(bundle, library(what))
    assert contents(bundle) == before
    assert list(bundle.parent.iterdir()) == [bundle]


def test_an_export_whose_engine_fails_leaves_nothing(golden_checkpoint: Path, out: Path, library: Callable[[str], EngineOptions]) -> None:
    library("return None")
    result = dlm_export(golden_checkpoint, "--out", out, "--target", "tensorrt-rtx", "--loop")
    assert result.exit_code == 2
    assert result.stderr == "error model.onnx: the builder made no engine. It said nothing\n"
    assert not any(out.parent.iterdir())
    library(BUILDS)
    assert dlm_export(golden_checkpoint, "--out", out, "--target", "tensorrt-rtx").exit_code == 0
    assert [plan.file for plan in Bundle.load(out).manifest.targets[0].plans] == ["engines/model.plan"]


def test_a_block_that_cannot_be_built_says_what_can(bundle: Path, library: Callable[[str], EngineOptions]) -> None:
    options = library('return None if network.file.endswith("block.onnx") else b"an engine"')
    with pytest.raises(EngineError, match=r"block\.onnx: .*The engine of model\.onnx was built: leave out --loop to have it"):
        add_engines(bundle, options, loop=True)
    assert not (bundle / "block.onnx").exists()


def test_options_are_checked_against_the_bundle(bundle: Path, library: Callable[[str], EngineOptions]) -> None:
    options = library(BUILDS)
    with pytest.raises(OptionError, match="--max-context 10000000: the bundle's is"):
        add_engines(bundle, EngineOptions(options.builder, max_context=10_000_000))
    with pytest.raises(BundleError, match="is not a folder"):
        add_engines(bundle / "nowhere", options)


def test_the_command(bundle: Path, library: Callable[[str], EngineOptions]) -> None:
    library(BUILDS)
    result = dlm_export("engine", bundle, "--compute-capability", "8.6", "--max-batch", 3)
    assert result.exit_code == 0, result.output
    assert "engines/model.plan" in result.output
    assert "profile denoise: " in result.output
    assert "B 1-3" in result.output
    assert "1.0, compute capabilities 86; profiles prefill, denoise, autoregression" in dlm_export("inspect", bundle).output
    printed = json.loads(dlm_export("engine", bundle, "--json").output)
    assert printed["engines"]["engines"][0]["compute_capabilities"] == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--compute-capability", "70"), "--compute-capability 70: '70' is none; give a comma-separated choice of 86"),
        (("--max-batch", "0"), "--max-batch 0: give at least 1"),
        (("--max-context", "10000000"), "--max-context 10000000: the bundle's is"),
        (("--plugin", "nowhere.so"), "--plugin nowhere.so: is no file"),
        (("--target", "onnxruntime"), "--target onnxruntime: builds no engines"),
    ],
)
def test_bad_options_end_in_one_sentence(
    bundle: Path, library: Callable[[str], EngineOptions], words: tuple[str, ...], complaint: str
) -> None:
    library(BUILDS)
    before = contents(bundle)
    result = dlm_export("engine", bundle, *words)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error {complaint}")
    assert result.stderr.count("\n") == 1
    assert contents(bundle) == before


def test_a_library_that_is_missing(golden_checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(builders.BUILDERS, "tensorrt-rtx", Builder("tensorrt-rtx", "TensorRT for RTX", "no_such_library"))
    result = dlm_export(golden_checkpoint, "--out", out, "--target", "tensorrt-rtx")
    assert result.exit_code == 2
    assert "pip install 'dlm-npc[tensorrt-rtx]'" in result.stderr
    assert not out.parent.exists()
    assert dlm_export(golden_checkpoint, "--out", out, "--target", "tensorrt-rtx", "--graph-only").exit_code == 0
    assert Bundle.load(out).manifest.targets[0].plans == ()


@pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes")
def test_an_interrupted_build_leaves_nothing(bundle: Path, library: Callable[[str], EngineOptions], tmp_path: Path) -> None:
    """The building process holds a pipe open; its end is that of the process."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    library(f"self.held = open({str(pipe)!r}, 'w'); __import__('threading').Event().wait()")
    program = (
        "import sys\nfrom dlm_export.engines import builders\n"
        "builders.BUILDERS['tensorrt-rtx'] = builders.Builder('tensorrt-rtx', 'Stand-in', 'stand_in_library')\n"
        "from dlm_export.cli import app\napp(sys.argv[1:])"
    )
    before = contents(bundle)
    command = subprocess.Popen([sys.executable, "-c", program, "engine", str(bundle)], stderr=subprocess.PIPE, text=True)
    with pipe.open() as held:  # returns once the building process has it open too
        command.send_signal(signal.SIGTERM)
        said = command.communicate()[1]
        assert held.read() == ""  # it is gone
    assert (command.returncode, said) == (130, "interrupted; the bundle is as it was\n")
    assert contents(bundle) == before
    assert list(bundle.parent.iterdir()) == [bundle]


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_whole_numbers_for_onnxruntime_are_refused_before_anything_is_built(
    golden_checkpoint: Path, out: Path, library: Callable[[str], EngineOptions], precision: Precision
) -> None:
    export_bundle(golden_checkpoint, out, ExportOptions(precision=precision))
    with pytest.raises(OptionError, match=rf"this {precision} bundle was made for onnxruntime alone; export the checkpoint again"):
        add_engines(out, library(BUILDS))
    assert not (out / "engines").exists()
