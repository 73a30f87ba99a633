"""Verification passes what is right and fails what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dlm_export.errors import CheckpointError
from dlm_export.exporting import Precision, export_bundle
from dlm_export.verify import verify_bundle
from dlm_runtime.bundle import Bundle, write_manifest
from dlm_runtime.errors import BundleError, EngineError

MODES = [
    "prefill",
    "prefill, last token only",
    "prefill with past",
    "denoise",
    "denoise with past",
    "one token",
    "one token with past",
    "causal verify with past",
    "all modes in one batch",
]
RECORDED = ["causal", "bidirectional", "causal_prefix_bidirectional_block", "cached_block", "batch", "long_positions"]


def test_golden_bundle_equals_torch_and_the_recorded_logits(golden_bundle_path: Path, golden_checkpoint: Path) -> None:
    report = verify_bundle(golden_bundle_path, golden_checkpoint)
    assert [result.name for result in report.results] == [*MODES, *(f"recorded {name}" for name in RECORDED)]
    assert report.passed
    assert report.largest_error <= 1e-4
    assert report.agreement == 1
    assert all(result.finite and not result.wrong_decisions for result in report.results)
    assert [result.tolerance for result in report.results if "long" in result.name] == [0.02]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("tied", [False, True])
def test_every_precision_tied_or_not(checkpoint: Any, out: Path, precision: Precision, tied: bool) -> None:
    if tied:
        checkpoint.tie()
    export_bundle(checkpoint.path, out, precision=precision)
    report = verify_bundle(out, checkpoint.path, seed=3)
    assert report.passed, report
    assert len(report.results) == len(MODES)


def test_plain_rotary_and_equal_heads(checkpoint: Any, out: Path) -> None:
    """One layer's sizes changed so that every head has its own keys, and no YaRN."""
    keys = [f"encoder.layers.{layer}.self_attn.{part}_proj.weight" for layer in (0, 1) for part in "kv"]
    checkpoint.tensors(lambda tensors: tensors.update({key: tensors[key].repeat(2, 1) for key in keys}))
    checkpoint.config(num_key_value_heads=4, rope_parameters={"rope_type": "default", "rope_theta": 500.0})
    export_bundle(checkpoint.path, out)
    assert verify_bundle(out, checkpoint.path).passed


def test_other_weights_fail(checkpoint: Any, out: Path) -> None:
    export_bundle(checkpoint.path, out)
    checkpoint.tensors(lambda tensors: tensors["encoder.layers.1.mlp.up_proj.weight"].mul_(1.01))
    report = verify_bundle(out, checkpoint.path)
    assert not report.passed
    assert report.largest_error > 1e-4


def test_int8_with_wrong_weights_fails(checkpoint: Any, out: Path) -> None:
    export_bundle(checkpoint.path, out, precision="int8")
    checkpoint.tensors(lambda tensors: tensors["encoder.layers.0.self_attn.v_proj.weight"].mul_(-1))
    assert not verify_bundle(out, checkpoint.path).passed


def test_checkpoint_of_another_size(golden_bundle_path: Path, checkpoint: Any) -> None:
    checkpoint.config(num_hidden_layers=1)
    with pytest.raises(CheckpointError, match="layers: is 1, the bundle was made from one with 2"):
        verify_bundle(golden_bundle_path, checkpoint.path)


def test_changed_model_file(checkpoint: Any, out: Path) -> None:
    export_bundle(checkpoint.path, out)
    with (out / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match="has sha256"):
        verify_bundle(out, checkpoint.path)


def test_model_that_does_not_load(checkpoint: Any, out: Path) -> None:
    manifest = export_bundle(checkpoint.path, out).manifest
    (out / "model.onnx").write_bytes(b"\x08\x0anonsense")
    write_manifest(out, manifest)
    assert Bundle.load(out)
    with pytest.raises(EngineError, match="ONNX Runtime cannot load"):
        verify_bundle(out, checkpoint.path)


@pytest.mark.parametrize("name", ["logits.npz", "meta.json"])
def test_unreadable_recording(checkpoint: Any, out: Path, golden_checkpoint: Path, name: str) -> None:
    export_bundle(checkpoint.path, out)
    for file in ("logits.npz", "meta.json"):
        (checkpoint.path / file).write_bytes((golden_checkpoint / file).read_bytes() if file != name else b"broken")
    with pytest.raises(CheckpointError, match=name):
        verify_bundle(out, checkpoint.path)
