"""What keeps a native engine from opening, and what the error says to do."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
from dlm_runtime.bundle import Bundle
from dlm_runtime.engines.choose import open_engine
from dlm_runtime.engines.native import NativeEngine
from dlm_runtime.engines.native.libraries import PLUGIN_VARIABLE
from dlm_runtime.errors import EngineError


def test_a_bundle_without_a_plan_says_how_to_build_one(card, golden_bundle_path: Path) -> None:
    with pytest.raises(EngineError, match=re.escape(f"dlm-export engine {golden_bundle_path}")) as caught:
        NativeEngine(Bundle.load(golden_bundle_path))
    assert "holds no TensorRT plan" in caught.value.problem


@pytest.mark.parametrize(("module", "package"), [("tensorrt_rtx", "tensorrt_rtx"), ("cuda.bindings.runtime", "cuda-python")])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(card, planned, monkeypatch, module: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EngineError, match=f"the package {package} cannot be imported") as caught:
        NativeEngine(planned)
    assert "pip install 'dlm-npc[tensorrt-rtx]'" in caught.value.remedy


def test_no_driver(card, planned) -> None:
    card.cuda.failing["cudaGetDeviceCount"] = 35
    with pytest.raises(EngineError, match="CUDA driver version is insufficient") as caught:
        NativeEngine(planned)
    assert "Install a driver" in caught.value.remedy


def test_no_card(card, planned) -> None:
    card.cuda.devices = 0
    with pytest.raises(EngineError, match="no NVIDIA card in this machine"):
        NativeEngine(planned)


def test_a_plan_that_the_library_refuses_is_told_with_its_reason_and_the_card(card, bundle_with_plan, golden_bundle_path, tmp_path) -> None:
    bundle = bundle_with_plan(golden_bundle_path, tmp_path / "bundle", compute_capabilities=("120",))
    (bundle.path / "engines/model.plan").write_bytes(b"something else")
    with pytest.raises(EngineError, match=r"kEXPECTED_MAGIC_TAG failed.*built by tensorrt_rtx 1.7.1 for 120.*Pretend RTX.*89"):
        NativeEngine(bundle)
    assert not card.cuda.device
    assert not card.cuda.host


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"builder": "somebody 1"}, "built by 'somebody 1', which is unknown here"),
        ({"builder": " "}, "built by ' ', which is unknown here"),
        ({"plugin": "python"}, "a stand-in that computes nothing"),
        ({"plugin": "libdlm_unmask_tensorrt.so"}, f"Set {PLUGIN_VARIABLE} to the library's path"),
        ({"graph": "block.onnx"}, "holds no TensorRT plan"),
    ],
)
def test_plans_that_cannot_be_run(card, bundle_with_plan, golden_bundle_path, tmp_path, monkeypatch, changed, message: str) -> None:
    monkeypatch.delenv(PLUGIN_VARIABLE, raising=False)
    bundle = bundle_with_plan(golden_bundle_path, tmp_path / "bundle", **changed)
    with pytest.raises(EngineError, match=re.escape(message)):
        NativeEngine(bundle)


def test_the_plugin_library_is_loaded_before_the_plan(
    card, bundle_with_plan, golden_bundle_path, tmp_path, monkeypatch, make_batch
) -> None:
    bundle = bundle_with_plan(golden_bundle_path, tmp_path / "bundle", plugin="libdlm_unmask_tensorrt.so")
    library = str(tmp_path / "libdlm_unmask_tensorrt.so")
    monkeypatch.setenv(PLUGIN_VARIABLE, library)
    with pytest.raises(EngineError, match="cannot be loaded as a plugin library"):
        NativeEngine(bundle)
    card.trt.plugins[library] = True
    NativeEngine(bundle).close()


def test_profiles_that_the_manifest_does_not_know(card, planned, bundle_with_plan, golden_bundle_path, tmp_path) -> None:
    profiles = planned.manifest.targets[0].plans[0].profiles[:1]
    bundle = bundle_with_plan(golden_bundle_path, tmp_path / "bundle", profiles=profiles)
    with pytest.raises(EngineError, match="has 3 profiles, the manifest lists 1"):
        NativeEngine(bundle)


def test_a_plan_of_another_model(card, planned, bundle_with_plan, golden_bundle_path, tmp_path) -> None:
    manifest = planned.manifest.model_copy(update={"layers": 3})
    with pytest.raises(EngineError, match=r"lacks 'past.2.key'"):
        NativeEngine(Bundle(planned.path, manifest))


def test_auto_takes_native_first_and_says_so(card, planned) -> None:
    chosen = open_engine(planned, "auto")
    assert chosen.name == "native"
    assert chosen.why.startswith("engine native, the first of native, tensorrt-rtx")
    chosen.engine.close()


def test_the_real_library_without_a_card(card, bundle_with_plan, golden_bundle_path, tmp_path, monkeypatch) -> None:
    """TensorRT for RTX as installed, a pretended driver: it cannot load any plan here, and the error tells its reason."""
    monkeypatch.delitem(sys.modules, "tensorrt_rtx")
    pytest.importorskip("tensorrt_rtx")
    bundle = bundle_with_plan(golden_bundle_path, tmp_path / "bundle")
    with pytest.raises(EngineError, match=r"model.plan cannot be loaded by tensorrt_rtx \S+ \(.+\)"):
        NativeEngine(bundle)


def test_the_real_cuda_without_a_driver(planned, card, monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "cuda.bindings.runtime")
    cuda = pytest.importorskip("cuda.bindings.runtime")
    code, count = cuda.cudaGetDeviceCount()
    if not int(code) and count:
        pytest.skip("there is a card")
    assert importlib.import_module("cuda.bindings.runtime") is cuda
    with pytest.raises(EngineError, match="engine native cannot be used: "):
        NativeEngine(planned)
