"""Two variants of ONNX Runtime side by side are pointed out, one is not."""

import pytest
from dlm_runtime.engines import installation


def pretend(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(installation, "_version", lambda name: "1.31.0" if name in names else None)


def test_one_variant_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "onnxruntime")
    assert installation.onnxruntime_conflict() is None


def test_two_variants_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "onnxruntime", "onnxruntime-gpu")
    message = installation.onnxruntime_conflict()
    assert message is not None
    assert "onnxruntime 1.31.0 and onnxruntime-gpu 1.31.0" in message
    assert "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu" in message
