"""Engines that TensorRT for RTX really builds, which takes no GPU. Skipped where it is not installed."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
import pytest
from dlm_export.cli import app
from dlm_runtime.bundle import Bundle, write_manifest
from onnx import helper
from typer.testing import CliRunner

pytestmark = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")

ROOT = Path(__file__).parents[3]
FIXTURES, TAVERN = ROOT / "tests" / "fixtures", ROOT / "samples" / "tavern" / "checkpoint"
QUICK = {("llada", "fp16"), ("mdlm", "fp32"), ("modernbert", "bf16"), ("sdar", "int4"), ("dream", "int8")}
ODD_HEADS = ("bert_untied", "modernbert_biases", "nemotron_labs_diffusion_tied")  # 12 and 20 numbers to a head
ROUTED = ("llada2", "llada21", "llada2_more_groups", "llada_moe", "llada_moe_shared_expert", "sdar_moe")
UNMASKED = ("diffusion_gemma", "diffusion_gemma_other_layers")
ALL = [
    pytest.param(name, precision, marks=() if (name, precision) in QUICK else pytest.mark.slow)
    for name in sorted(folder.name for folder in FIXTURES.iterdir() if folder.is_dir())
    for precision in ("fp32", "fp16", "bf16", "int8", "int4")
]


def dlm_export(*words: Any) -> Any:
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, [str(word) for word in words])


def layers_of(bundle: Path, name: str) -> list[str]:
    return (bundle / "engines" / f"{name}.layers.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(("name", "precision"), ALL)
def test_families(out: Path, name: str, precision: str) -> None:
    result = dlm_export(FIXTURES / name, "--out", out, "--target", "tensorrt-rtx", "--precision", precision)
    if name in ODD_HEADS and precision != "fp32":
        assert result.exit_code == 2
        assert "a multiple of 8: --precision fp32 may build" in result.stderr
        assert not out.exists()
        return
    assert result.exit_code == 0, result.output
    manifest = Bundle.load(out).manifest
    (plan,) = manifest.targets[0].plans
    assert (out / plan.file).stat().st_size > 10_000
    assert plan.builder.startswith("tensorrt_rtx 1.")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*(folder.name for folder in FIXTURES.iterdir() if folder.is_dir())} - {*UNMASKED}))
def test_blocks_of_families(out: Path, name: str) -> None:
    result = dlm_export(FIXTURES / name, "--out", out, "--target", "tensorrt-rtx", "--loop")
    if name in ROUTED:
        assert result.exit_code == 2
        assert "leave out --loop to have it" in result.stderr
        assert not out.exists()
        return
    assert result.exit_code == 0, result.output
    assert (out / "engines" / "block.plan").stat().st_size > 10_000


def test_the_tavern_with_its_block(out: Path) -> None:
    words = ("--target", "tensorrt-rtx", "--precision", "fp16", "--loop", "--compute-capability", "86,89,120", "--max-batch", 4, "--json")
    result = dlm_export(TAVERN, "--out", out, *words)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)["engines"]
    assert report == json.loads((out / "engines" / "report.json").read_text(encoding="utf-8"))
    step, block = report["engines"]
    assert (step["graph"], block["graph"]) == ("model.onnx", "block.onnx")
    assert step["plan_bytes"] == (out / "engines" / "model.plan").stat().st_size > 13_000_000
    for engine in (step, block):
        assert engine["compute_capabilities"] == ["86", "89", "120"]
        assert engine["refused"] == engine["plugin_layers"] == []
        assert engine["plugin"] is None
        assert engine["build_s"] > 0
    assert [profile["name"] for profile in step["profiles"]] == ["prefill", "denoise", "autoregression"]
    assert len(layers_of(out, "model")) == step["layers"]
    assert any(line.startswith("TRIP_LIMIT\t") for line in layers_of(out, "block"))
    assert not any(line.startswith("TRIP_LIMIT\t") for line in layers_of(out, "model"))
    assert Bundle.load(out).manifest.targets[0].plans[0].profiles[1].dimensions["B"] == (1, 2, 4)


def test_a_plugin_takes_the_place_of_the_functions_body(golden_checkpoint: Path, out: Path) -> None:
    words = ("--target", "tensorrt-rtx", "--precision", "fp16")
    result = dlm_export(golden_checkpoint, "--out", out, *words, "--plugin", "python")
    assert result.exit_code == 0, result.output
    assert "The plugin was a stand-in" in result.output
    with_plugin = layers_of(out, "model")
    assert "PLUGIN_V3\tunmask" in with_plugin
    assert Bundle.load(out).manifest.targets[0].plans[0].plugin == "python"
    assert dlm_export("engine", out).exit_code == 0
    without = layers_of(out, "model")
    assert not any(line.startswith("PLUGIN") for line in without)
    assert len(without) > len(with_plugin) + 100
    assert Bundle.load(out).manifest.targets[0].plans[0].plugin is None


def test_refused_nodes_are_named(golden_checkpoint: Path, out: Path) -> None:
    """An operator that no parser knows, in a bundle that is otherwise whole."""
    assert dlm_export(golden_checkpoint, "--out", out, "--target", "tensorrt-rtx", "--graph-only").exit_code == 0
    model = onnx.load(out / "model.onnx")
    logits = next(node for node in model.graph.node if node.output[0] == "logits")
    logits.output[0] = "logits.before"
    index = list(model.graph.node).index(logits)
    odd = helper.make_node("Frobnicate", ["logits.before"], ["logits"], name="odd_one", domain="elsewhere")
    nodes = [*model.graph.node[: index + 1], odd, *model.graph.node[index + 1 :]]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.opset_import.append(helper.make_opsetid("elsewhere", 1))
    onnx.save_model(model, out / "model.onnx")
    write_manifest(out, Bundle.load(out, verify_hashes=False).manifest)
    before = (out / "manifest.json").read_bytes()
    result = dlm_export("engine", out)
    assert result.exit_code == 2
    assert "model.onnx: the parser refuses 1 node: odd_one (Frobnicate): " in result.stderr
    assert (out / "manifest.json").read_bytes() == before
    assert not (out / "engines").exists()


def test_a_library_that_is_no_plugin(golden_checkpoint: Path, out: Path, tmp_path: Path) -> None:
    library = tmp_path / "libnothing.so"
    library.write_bytes(b"no library")
    result = dlm_export(golden_checkpoint, "--out", out, "--target", "tensorrt-rtx", "--plugin", library)
    assert result.exit_code == 2
    assert "libnothing.so" in result.stderr
    assert not out.exists()
