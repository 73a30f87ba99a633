"""What the building process asks of its library, with a module in the library's place; and how every end of it is told."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from dlm_export.engines import build_process
from dlm_export.engines.errors import EngineError
from dlm_export.engines.job import BuildJob
from dlm_export.engines.outcome import BuildOutcome, Layer, RefusedNode
from dlm_export.engines.process import judged, library_folder, run_build

SHAPES = {"input_ids": [[1, 1], [4, 8], [8, 16]], "quota": [[1], [4], [8]]}
REFUSED = RefusedNode("layers.0.mlp", "Frobnicate", "No importer registered for op: Frobnicate", "dlm::Odd")


class FakeTensorrt(SimpleNamespace):
    """As much of a library as the process touches. What it is asked for is kept in `asked`."""

    def __init__(self, name: str = "tensorrt_rtx", version: str = "1.7.1.116", *, typed: bool = True, plan: bytes | None = b"plan") -> None:
        super().__init__(__name__=name, __version__=version, asked=[], accepts=True, plan=plan, loaded=True)
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1) if typed else SimpleNamespace()
        self.ComputeCapability = SimpleNamespace(SM86="sm86", SM89="sm89")
        self.BuilderFlag = SimpleNamespace(TF32="tf32")
        self.ILogger = type("ILogger", (), {"WARNING": 2, "__init__": lambda logger: None})

    def note(self, *words: Any) -> None:
        self.asked.append(words)

    def Builder(self, logger: Any) -> Any:
        self.logger = logger
        return SimpleNamespace(
            create_network=self.network,
            create_builder_config=self.config,
            create_optimization_profile=lambda: SimpleNamespace(set_shape=lambda *shape: self.note("shape", *shape)),
            build_serialized_network=self.built,
        )

    def network(self, flags: int) -> Any:
        self.note("flags", flags)
        layer = SimpleNamespace(name="logits", type="LayerType.MATRIX_MULTIPLY")
        inputs = [SimpleNamespace(name=name) for name in SHAPES]
        return SimpleNamespace(num_layers=1, get_layer=lambda index: layer, num_inputs=len(inputs), get_input=inputs.__getitem__)

    def config(self) -> Any:
        return SimpleNamespace(
            clear_flag=lambda flag: self.note("without", flag),
            set_compute_capability=lambda *card: self.note("card", *card),
            add_optimization_profile=lambda profile: self.note("profile"),
        )

    def built(self, network: Any, config: Any) -> bytes | None:
        self.note("cards", getattr(config, "num_compute_capabilities", None))
        self.logger.log(1, "no kernel\nfor this")
        self.logger.log(2, "Make sure input quota has Int64 binding.")
        self.logger.log(3, "chatter")
        return self.plan

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        error = SimpleNamespace(
            node_name=lambda: REFUSED.node,
            node_operator=lambda: REFUSED.operator,
            desc=lambda: REFUSED.description.replace(" ", "\n"),
            local_function_stack=lambda: [REFUSED.function],
        )
        return SimpleNamespace(
            parse_from_file=lambda path: self.accepts,
            supports_model_v2=lambda data, path: self.note("asked for all"),
            num_errors=0 if self.accepts else 1,
            get_error=lambda index: error,
        )

    def get_plugin_registry(self) -> Any:
        return SimpleNamespace(load_library=lambda path: self.note("library", path) or (object() if self.loaded else None))


@pytest.fixture
def job(tmp_path: Path) -> BuildJob:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"")
    return BuildJob("fake", str(model), str(tmp_path / "model.plan"), str(tmp_path / "outcome.json"), (SHAPES, SHAPES))


def outcome_in(job: BuildJob) -> BuildOutcome:
    return BuildOutcome.from_json(json.loads(Path(job.outcome).read_text(encoding="utf-8")))


def test_a_job_survives_its_file(job: BuildJob, tmp_path: Path) -> None:
    job = replace(job, compute_capabilities=("86", "120"), plugin="python")
    job.write(tmp_path / "job.json")
    assert BuildJob.read(tmp_path / "job.json") == job


def test_an_engine_is_built(job: BuildJob, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trt = FakeTensorrt()
    replace(job, compute_capabilities=("86", "89")).write(tmp_path / "job.json")
    assert build_process.main([str(tmp_path / "job.json")], load=lambda name: cast(Any, trt)) == 0
    outcome = outcome_in(job)
    assert (outcome.state, outcome.builder, outcome.plan_bytes) == ("built", "tensorrt_rtx 1.7.1.116", 4)
    assert outcome.layers == (Layer("logits", "MATRIX_MULTIPLY"),)
    assert outcome.lines == ("no kernel for this",)  # in one line, and neither noise nor chatter
    assert capfd.readouterr().err == "no kernel for this\n"
    assert Path(job.plan).read_bytes() == b"plan"
    assert trt.asked == [
        ("flags", 2),
        ("without", "tf32"),
        ("card", "sm86", 0),
        ("card", "sm89", 1),
        *[("shape", "input_ids", (1, 1), (4, 8), (8, 16)), ("shape", "quota", (1,), (4,), (8,)), ("profile",)] * 2,
        ("cards", 2),
    ]


def test_without_cards_the_library_decides(job: BuildJob) -> None:
    trt = FakeTensorrt()
    build_process.build(job, trt)
    assert trt.asked[-1] == ("cards", None)


@pytest.mark.parametrize(
    ("name", "version", "typed", "flags"),
    [
        ("tensorrt_rtx", "1.7.1.116", True, 2),
        ("tensorrt", "10.13.0", True, 2),
        ("tensorrt", "11.4.0", False, 0),
        ("tensorrt", "11.4", True, 2),
    ],
)
def test_networks_are_strongly_typed(name: str, version: str, typed: bool, flags: int) -> None:
    """TensorRT 11 has no other kind, with or without the flag."""
    assert build_process.network_flags(FakeTensorrt(name, version, typed=typed)) == flags


def test_an_old_tensorrt_is_refused() -> None:
    with pytest.raises(build_process.Unusable, match=r"tensorrt 8\.6\.1 is too old; install 10 or newer"):
        build_process.network_flags(FakeTensorrt("tensorrt", "8.6.1"))


def test_refused_nodes_are_named(job: BuildJob) -> None:
    trt = FakeTensorrt()
    trt.accepts = False
    outcome = build_process.build(job, trt)
    assert outcome.state == "refused"
    assert outcome.refused == (REFUSED,)  # said once, though both questions found it
    assert ("asked for all",) in trt.asked
    with pytest.raises(EngineError) as caught:
        judged("model.onnx", -6, outcome, [])  # whatever the end was
    assert str(caught.value) == (
        "model.onnx: the parser refuses 1 node: dlm::Odd/layers.0.mlp (Frobnicate): No importer registered for op: Frobnicate"
    )
    assert caught.value.refused == (REFUSED,)


def test_many_refused_nodes_are_counted() -> None:
    nodes = tuple(RefusedNode(f"n{index}", "Odd", "no") for index in range(20))
    with pytest.raises(EngineError, match=r"refuses 20 nodes: n0 \(Odd\): no; .*n7 \(Odd\): no and 12 more"):
        judged("model.onnx", 0, BuildOutcome("refused", "b", refused=nodes), [])


def test_a_builder_that_makes_nothing(job: BuildJob) -> None:
    outcome = build_process.build(job, FakeTensorrt(plan=None))
    assert not Path(job.plan).exists()
    with pytest.raises(EngineError, match=r"model\.onnx: the builder made no engine\. It said: no kernel for this"):
        judged("model.onnx", 0, outcome, [])


@pytest.mark.parametrize(
    ("code", "stage", "words"),
    [
        (-11, None, r"killed by signal 11 \(SIGSEGV\) while parsing\. It said: one \| two"),
        (-9, BuildOutcome("failed", "b"), r"killed by signal 9 \(SIGKILL\) while building\. It said: one \| two"),
        (-250, None, "killed by signal 250 while parsing"),
        (1, None, r"ended with code 1\. It said: one \| two"),
        (0, None, "ended with code 0"),
    ],
)
def test_other_ends(code: int, stage: BuildOutcome | None, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        judged("model.onnx", code, stage, ["one", "", " two "])


def test_silence_is_told_too() -> None:
    with pytest.raises(EngineError, match="It said nothing"):
        judged("model.onnx", -11, None, [])


def test_a_plugin_library_is_loaded(job: BuildJob) -> None:
    trt = FakeTensorrt()
    build_process.build(replace(job, plugin="/opt/libdlm.so"), trt)
    assert trt.asked[0] == ("library", "/opt/libdlm.so")
    trt.loaded = False
    with pytest.raises(build_process.Unusable, match=r"/opt/libdlm\.so cannot be loaded as a plugin library"):
        build_process.build(replace(job, plugin="/opt/libdlm.so"), trt)


def test_a_full_disk_is_one_sentence(job: BuildJob, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    full = replace(job, plan=str(tmp_path / "no_such_folder" / "model.plan"))
    full.write(tmp_path / "job.json")
    assert build_process.main([str(tmp_path / "job.json")], load=lambda name: cast(Any, FakeTensorrt())) == 1
    said = capfd.readouterr().err
    assert "No such file or directory" in said
    assert "Traceback" not in said


def test_an_unusable_library_is_one_sentence(job: BuildJob, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    job.write(tmp_path / "job.json")
    assert build_process.main([str(tmp_path / "job.json")], load=lambda name: cast(Any, FakeTensorrt("tensorrt", "9.1"))) == 1
    assert capfd.readouterr().err == "tensorrt 9.1 is too old; install 10 or newer\n"
    assert not Path(job.outcome).exists()


def module_that(job: BuildJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> BuildJob:
    """The job with a module that runs some code when it is imported, in the real process."""
    (tmp_path / "odd_library.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return replace(job, module="odd_library")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_real_process_that_is_killed(job: BuildJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os, sys\nprint('about to fall', file=sys.stderr, flush=True)\nos.abort()"
    with pytest.raises(EngineError, match=r"killed by signal 6 \(SIGABRT\) while parsing\. It said: about to fall"):
        run_build(module_that(job, tmp_path, monkeypatch, code), 60)


def test_a_real_process_that_takes_too_long(job: BuildJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import threading\nthreading.Event().wait()"
    with pytest.raises(EngineError, match=r"not built within 0\.3 s\. Give more with --build-timeout"):
        run_build(module_that(job, tmp_path, monkeypatch, code), 0.3)


def test_a_real_process_that_fails(job: BuildJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match=r"ended with code 1\. It said: .*ValueError: broken"):
        run_build(module_that(job, tmp_path, monkeypatch, "raise ValueError('broken')"), 60)


def test_only_a_plugin_needs_the_librarys_short_name(job: BuildJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with library_folder(replace(job, module="tensorrt_rtx"), tmp_path) as environment:
        assert environment == {}
    libraries = tmp_path / "site" / "tensorrt_rtx_libs"
    libraries.mkdir(parents=True)
    (libraries / "__init__.py").touch()
    (libraries / "libtensorrt_rtx.so.1").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "tensorrt_rtx_libs", raising=False)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/local/lib")
    if sys.platform == "win32":
        return
    with library_folder(replace(job, module="tensorrt_rtx", plugin="python"), tmp_path) as environment:
        folder, _, rest = environment["LD_LIBRARY_PATH"].partition(":")
        assert rest == "/usr/local/lib"
        assert (Path(folder) / "libtensorrt_rtx.so").resolve() == libraries / "libtensorrt_rtx.so.1"
