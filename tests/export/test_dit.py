"""MDLM and BD3-LM: recorded logits, sizes and switches, what is folded, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from dlm_export.backbones.dit import DitConfig
from dlm_export.checkpoint import Checkpoint
from dlm_export.errors import CheckpointError
from dlm_export.exporting import export_bundle
from dlm_export.families import SpecialOverrides, family_of
from dlm_export.loading import load_module
from dlm_export.verify import verify_bundle
from safetensors.torch import load_file, save_file

FIXTURES = Path(__file__).parents[1] / "fixtures"
FREQUENCIES = "backbone.rotary_emb.inv_freq"


@pytest.fixture(params=["mdlm", "bd3lm"])
def dit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A writable copy of either golden checkpoint, without its recorded logits."""
    return copied(request.param, tmp_path)


@pytest.fixture
def bd3lm(tmp_path: Path) -> Path:
    """A writable copy of the golden BD3-LM, without its recorded logits."""
    return copied("bd3lm", tmp_path)


def copied(name: str, parent: Path) -> Path:
    return shutil.copytree(FIXTURES / name, parent / name, ignore=shutil.ignore_patterns("logits.npz", "meta.json"))


def set_config(folder: Path, **changes: Any) -> None:
    """Set fields of config.json; None makes one null, which counts as absent."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def redraw(folder: Path, **changes: Any) -> None:
    """Other sizes or switches, and random weights of the shapes they ask for; frequencies like no power of a base."""
    set_config(folder, **changes)
    opened = Checkpoint.open(folder)
    family, generator = family_of(opened), torch.Generator().manual_seed(7)
    tensors: dict[str, torch.Tensor] = {}
    for name, shape in family.backbone(opened).tensor_shapes():
        drawn = torch.randn(shape, generator=generator) * (shape[-1] ** -0.5 if len(shape) > 1 else 0.3)
        tensors[family.checkpoint_key(name)] = drawn + 1 if "norm" in name else drawn
    save_file(tensors, folder / "model.safetensors")


def logits_of(folder: Path) -> torch.Tensor:
    """Logits of eight tokens, by the torch module."""
    ids = torch.arange(8)[None]
    with torch.no_grad():
        return load_module(Checkpoint.open(folder))(ids, ids, torch.ones(1, 1, 8, 8, dtype=torch.bool))[0]


@pytest.mark.parametrize(
    ("name", "context_mask", "block_length", "cases"),
    [
        ("mdlm", "bidirectional", 32, {"plain", "batch"}),
        ("bd3lm", "block_causal", 4, {"block_causal", "noisy_and_clean", "cached_block"}),
    ],
)
def test_golden_bundle_equals_the_recorded_logits(name: str, context_mask: str, block_length: int, cases: set[str], out: Path) -> None:
    manifest = export_bundle(FIXTURES / name, out).manifest
    assert (manifest.family, manifest.context_mask, manifest.modes) == (name, context_mask, ("diffusion",))
    assert (manifest.mask_token_id, manifest.eos_token_ids, manifest.pad_token_id, manifest.bos_token_id) == (129, (128,), 128, 128)
    assert (manifest.block_length, manifest.max_context, manifest.logit_shift) == (block_length, 32, 0)
    report = verify_bundle(out, FIXTURES / name)
    assert {result.name for result in report.results} == {f"recorded {case}" for case in cases}
    assert report.passed, report
    assert report.largest_error <= 1e-4


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_dim": 40, "n_heads": 1, "n_blocks": 1, "cond_dim": 130, "vocab_size": 97},
        {"hidden_dim": 42, "n_heads": 7, "n_blocks": 3, "cond_dim": 1, "model_length": 20},
    ],
)
def test_sizes(dit: Path, out: Path, changes: dict[str, Any]) -> None:
    redraw(dit, **changes)
    manifest = export_bundle(dit, out).manifest
    assert manifest.block_length == (4 if dit.name == "bd3lm" else min(32, manifest.max_context))
    report = verify_bundle(out, dit)
    assert report.passed, report


def test_without_adaln(bd3lm: Path, out: Path) -> None:
    """The noise level goes nowhere then, so its conditioning may be on."""
    redraw(bd3lm, adaln=False, time_conditioning=True, cond_dim=None, block_size=None)
    assert export_bundle(bd3lm, out).manifest.block_length == 1
    report = verify_bundle(out, bd3lm)
    assert report.passed, report


def test_timestep_network_is_not_in_the_graph(dit: Path, out: Path) -> None:
    export_bundle(dit, out)
    graph = onnx.load(out / "model.onnx").graph
    assert not [tensor.name for tensor in graph.initializer if "adaLN" in tensor.name or "sigma_map" in tensor.name]
    norms = [node for node in graph.node if node.op_type == "LayerNormalization"]
    assert [len(node.input) for node in norms] == [3] * 5  # shifts are their biases


def test_stored_frequencies_are_used(dit: Path, out: Path) -> None:
    before = logits_of(dit)
    tensors = load_file(dit / "model.safetensors")
    save_file(tensors | {FREQUENCIES: tensors[FREQUENCIES] * 0.5}, dit / "model.safetensors")
    assert not torch.allclose(logits_of(dit), before, atol=1e-2)
    export_bundle(dit, out)
    assert verify_bundle(out, dit).passed


def test_noise_schedule_is_left_out(bd3lm: Path, out: Path) -> None:
    assert any("left out, 2 in all: sampling_eps_max" in note for note in export_bundle(bd3lm, out).notes)


@pytest.mark.parametrize(
    ("name", "field", "value", "message"),
    [
        ("mdlm", "time_conditioning", True, "time_conditioning: is True, so the network wants the noise level"),
        ("bd3lm", "time_conditioning", True, "time_conditioning: is True, so the network wants the noise level"),
        ("mdlm", "adaln", False, "adaln: is False, only True can be exported"),
        ("bd3lm", "causal", True, "causal: is True: this is the autoregressive baseline"),
        ("bd3lm", "cross_attn", False, "cross_attn: is False: this network sees its context both ways"),
        ("bd3lm", "adaln", "yes", "adaln: is 'yes', expected true or false"),
        ("mdlm", "quantization_config", {"bits": 4}, "quantization_config: is"),
        ("mdlm", "n_heads", 5, "sizes: do not fit together: hidden_size=48 is not a multiple of heads=5"),
        ("mdlm", "n_heads", 16, "sizes: do not fit together: head_size=3 must be even"),
        ("mdlm", "cond_dim", None, "cond_dim: is missing"),
        ("mdlm", "hidden_dim", 0, "hidden_dim: is 0, expected a whole number from 1"),
    ],
)
def test_config_that_cannot_be_computed_exactly_is_refused(name: str, field: str, value: object, message: str, tmp_path: Path) -> None:
    folder = copied(name, tmp_path)
    set_config(folder, **{field: value})
    opened = Checkpoint.open(folder)
    with pytest.raises(CheckpointError) as caught:
        family_of(opened).backbone(opened)
    assert message in str(caught.value)


def test_a_block_longer_than_the_context(bd3lm: Path) -> None:
    set_config(bd3lm, block_size=33)
    opened = Checkpoint.open(bd3lm)
    with pytest.raises(CheckpointError, match="block_size: is 33, more than model_length=32"):
        family_of(opened).special_tokens(opened, SpecialOverrides())


def test_tokenizer_that_has_a_mask(dit: Path) -> None:
    """Trained over BERT's tokens nothing is appended to the vocabulary."""
    names = {"[CLS]": 101, "[SEP]": 102, "[MASK]": 103, "[PAD]": 0}
    (dit / "added_tokens.json").write_text(json.dumps(names), encoding="utf-8")
    opened = Checkpoint.open(dit)
    tokens = family_of(opened).special_tokens(opened, SpecialOverrides())
    assert (tokens.mask_token_id, tokens.eos_token_ids, tokens.bos_token_id, tokens.pad_token_id) == (103, (102,), 101, 0)


def test_sizes_that_are_no_network() -> None:
    with pytest.raises(ValueError, match="layers=0 must be at least 1"):
        DitConfig(vocab_size=5, hidden_size=4, layers=0, heads=1, cond_size=1)


def test_rounding_is_measured_in_float64(dit: Path) -> None:
    module = load_module(Checkpoint.open(dit))
    ids, mask = torch.arange(8)[None], torch.ones(1, 1, 8, 8, dtype=torch.bool)
    with torch.no_grad():
        narrow, (wide, presents) = module(ids, ids, mask)[0], module.double()(ids, ids, mask)
    assert wide.dtype == presents[0][0].dtype == torch.float64
    assert 0 < np.abs(wide.numpy() - narrow.numpy()).max() < 1e-4
