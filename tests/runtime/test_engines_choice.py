"""Which engine runs a bundle: exactly the one that was asked for or an error that says what it needs; `auto` says what it took and why."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime as ort
import pytest
from dlm_runtime.bundle import Bundle
from dlm_runtime.cli.serve import app
from dlm_runtime.embedded import tavern_bundle, tavern_characters
from dlm_runtime.engines import OnnxEngine, session
from dlm_runtime.engines.choose import ENGINE_CHOICES, open_engine
from dlm_runtime.engines.provider import PROVIDERS, ProviderName
from dlm_runtime.errors import EngineError
from dlm_runtime.service.launch import ServerOptions, load_speaker
from typer.testing import CliRunner

BUILT_IN, PLUG_INS = ("cuda", "directml"), ("tensorrt-rtx", "webgpu")


@pytest.fixture
def bundle(golden_bundle_path: Path) -> Bundle:
    return Bundle.load(golden_bundle_path)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with plain onnxruntime and nothing else, whatever is installed on this one."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["AzureExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(session, "_registered", set())
    for provider in PROVIDERS.values():
        if provider.plugin_module:
            monkeypatch.setitem(sys.modules, provider.plugin_module, None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """An ONNX Runtime that lists a provider, and whose sessions come with `came` in place of what they were asked for."""

    def make(listed: str, came: list[str], fails: Exception | None = None) -> None:
        def open_session(*arguments: Any, **named: Any) -> Any:
            if fails is not None:
                raise fails
            return SimpleNamespace(get_providers=lambda: came)

        monkeypatch.setattr(ort, "get_available_providers", lambda: [listed, "CPUExecutionProvider"])
        monkeypatch.setattr(ort, "InferenceSession", open_session)

    return make


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """An installed plug-in package whose library sees `devices`."""

    def make(name: ProviderName, devices: list[Any], register: Callable[[str, str], None] = lambda name, path: None) -> None:
        provider = PROVIDERS[name]
        monkeypatch.setitem(sys.modules, provider.plugin_module, SimpleNamespace(get_library_path=lambda: "libsomething.so"))
        monkeypatch.setattr(ort, "register_execution_provider_library", register)
        monkeypatch.setattr(ort, "get_ep_devices", lambda: devices)

    return make


@pytest.mark.parametrize("name", [*BUILT_IN, *PLUG_INS])
def test_a_provider_that_is_not_installed_is_an_error_with_the_way_to_install_it(bare: None, bundle: Bundle, name: Any) -> None:
    with pytest.raises(EngineError, match=f"engine {name} cannot be used") as caught:
        open_engine(bundle, name)
    assert PROVIDERS[name].install in caught.value.remedy
    assert "--engine cpu runs anywhere" in caught.value.remedy


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("came", [["CPUExecutionProvider"], []])
def test_falling_back_is_an_error(bare: None, pretend, bundle: Bundle, name: Any, came: list[str]) -> None:
    """ONNX Runtime lists providers that cannot load, and quietly runs on the CPU then."""
    pretend(PROVIDERS[name].registered_name, came)
    with pytest.raises(EngineError, match=f"fell back to {came[0] if came else 'nothing'} while loading model.onnx") as caught:
        open_engine(bundle, name)
    assert PROVIDERS[name].install in caught.value.remedy


def test_a_provider_that_fails_to_load_the_model_says_what_it_needs(bare: None, pretend, bundle: Bundle) -> None:
    pretend("CUDAExecutionProvider", [], RuntimeError("libcudnn.so.9: cannot open shared object file\nmore"))
    with pytest.raises(EngineError, match=r"cannot be loaded with cuda \(libcudnn.so.9: cannot open shared object file\)") as caught:
        open_engine(bundle, "cuda")
    assert PROVIDERS["cuda"].install in caught.value.remedy


@pytest.mark.parametrize("name", PLUG_INS)
def test_a_plug_in_that_finds_no_device(bare: None, plug_in, bundle: Bundle, name: Any) -> None:
    plug_in(name, [SimpleNamespace(ep_name="CPUExecutionProvider")])
    with pytest.raises(EngineError, match="its library is installed and finds no device that it can use") as caught:
        open_engine(bundle, name)
    assert PROVIDERS[name].install in caught.value.remedy


def test_a_plug_in_whose_library_cannot_be_loaded(bare: None, plug_in, bundle: Bundle) -> None:
    def refuse(name: str, path: str) -> None:
        raise RuntimeError(f"{path}: undefined symbol")

    plug_in("tensorrt-rtx", [], refuse)
    with pytest.raises(EngineError, match=r"its library cannot be loaded \(libsomething.so: undefined symbol\)"):
        open_engine(bundle, "tensorrt-rtx")


def test_a_plug_in_is_registered_once(bare: None, plug_in, bundle: Bundle) -> None:
    calls: list[str] = []
    plug_in("webgpu", [], lambda name, path: calls.append(name))
    for _ in range(2):
        with pytest.raises(EngineError, match="finds no device"):
            open_engine(bundle, "webgpu")
    assert calls == ["WebGpuExecutionProvider"]


def test_an_onnx_runtime_that_knows_no_plug_ins(bare: None, plug_in, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in("webgpu", [])
    monkeypatch.delattr(ort, "register_execution_provider_library")
    with pytest.raises(EngineError, match=r"knows no provider plug-ins; 1.24 and newer do"):
        open_engine(bundle, "webgpu")


def test_a_damaged_model_is_no_matter_of_providers(golden_bundle_path: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(golden_bundle_path)
    damaged = Bundle(tmp_path, bundle.manifest)
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(EngineError, match=r"The file is damaged. Export the bundle again"):
        open_engine(damaged, "cpu")


def test_what_was_asked_for_is_what_runs(bundle: Bundle) -> None:
    chosen = open_engine(bundle, "cpu", threads=1)
    assert (chosen.name, chosen.why) == ("cpu", "engine cpu, as asked for")
    assert isinstance(chosen.engine, OnnxEngine)
    chosen.engine.close()


def test_an_unknown_engine(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match=re.escape(f"engine='rocm' is unknown. Known are {', '.join(ENGINE_CHOICES)}")):
        open_engine(bundle, "rocm")  # pyright: ignore[reportArgumentType]  # that is the point


def test_auto_says_what_it_took_and_why_not_the_others(bare: None, bundle: Bundle) -> None:
    chosen = open_engine(bundle, "auto", threads=1)
    assert chosen.name == "cpu"
    assert chosen.why.startswith("engine cpu, the first of native, tensorrt-rtx, cuda, directml, webgpu, cpu that loads; not native: ")
    for name in ("tensorrt-rtx", "cuda", "directml", "webgpu"):
        assert f"not {name}: engine {name} cannot be used: " in chosen.why
    assert "holds no TensorRT plan" in chosen.why
    chosen.engine.close()


def test_auto_with_nothing_that_loads(bare: None, pretend, bundle: Bundle) -> None:
    pretend("CUDAExecutionProvider", [], RuntimeError("no"))
    with pytest.raises(EngineError, match=r"no engine can load .*native: .*cuda: .*cpu: "):
        open_engine(bundle, "auto")


@pytest.mark.parametrize("name", [*BUILT_IN, *PLUG_INS])
def test_serving_with_an_engine_that_is_not_there_exits_2(bare: None, name: str) -> None:
    result = CliRunner().invoke(app, ["--engine", name, "--port", "0"])
    assert result.exit_code == 2
    assert f"dlm-serve: engine {name} cannot be used: " in result.stderr
    assert "It needs: pip " in result.stderr


def test_serving_natively_without_a_plan_exits_2_and_says_how_to_build_one(bare: None) -> None:
    result = CliRunner().invoke(app, ["--engine", "native", "--port", "0"])
    assert result.exit_code == 2
    assert f"dlm-export engine {tavern_bundle()}" in result.stderr


def test_serving_with_auto_logs_the_choice(bare: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        _, scheduler = load_speaker(ServerOptions(tavern_bundle(), tavern_characters(), engine="auto", threads=1))
    scheduler.close()
    assert "engine cpu, the first of native, tensorrt-rtx, cuda, directml, webgpu, cpu that loads; not native: " in caplog.text


def test_an_op_library_that_cannot_be_loaded_is_an_error(bare: None, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLM_UNMASK_OP", "/nowhere/libop.so")
    with pytest.raises(EngineError, match=r"DLM_UNMASK_OP=/nowhere/libop\.so cannot be loaded .*Unset DLM_UNMASK_OP"):
        open_engine(bundle, "cpu")
