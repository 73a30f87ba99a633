"""ModernBERT: recorded logits, every switch of its config, and the ways in which its layers are said to be local."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from dlm_export.backbones.modernbert import ModernBertBackbone, ModernBertConfig
from dlm_export.checkpoint import Checkpoint
from dlm_export.errors import CheckpointError
from dlm_export.exporting import export_bundle
from dlm_export.families import family_of
from dlm_export.loading import load_module
from dlm_export.verify import verify_bundle
from safetensors.torch import load_file, save_file

GOLDEN = Path(__file__).parents[1] / "fixtures" / "modernbert"
TABLE = "model.embeddings.tok_embeddings.weight"
KINDS = {"F": "full_attention", "S": "sliding_attention"}
NEWER_ROPE = {
    "full_attention": {"rope_type": "default", "rope_theta": 700.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
}
ALL_BIASES = dict.fromkeys(("norm_bias", "attention_bias", "mlp_bias", "classifier_bias", "decoder_bias"), True)


@pytest.fixture
def modernbert(tmp_path: Path) -> Path:
    """A writable copy of the golden checkpoint, without its recorded logits."""
    return shutil.copytree(GOLDEN, tmp_path / "modernbert", ignore=shutil.ignore_patterns("logits.npz", "samples.json"))


def set_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def remove_config(folder: Path, *names: str) -> None:
    file = folder / "config.json"
    fields = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({key: value for key, value in fields.items() if key not in names}), encoding="utf-8")


def config_of(folder: Path) -> ModernBertConfig:
    opened = Checkpoint.open(folder)
    backbone = family_of(opened).backbone(opened)
    assert isinstance(backbone, ModernBertBackbone)
    return backbone.config


def redraw(folder: Path, **changes: Any) -> None:
    """Other sizes or switches, and random weights of the shapes they ask for."""
    set_config(folder, **changes)
    opened = Checkpoint.open(folder)
    family, generator = family_of(opened), torch.Generator().manual_seed(7)
    backbone = family.backbone(opened)
    tensors = {
        family.checkpoint_key(name): torch.randn(shape, generator=generator) * (shape[-1] ** -0.5 if len(shape) > 1 else 0.2)
        + float("norm" in name and name.endswith("weight"))
        for name, shape in backbone.tensor_shapes()
    }
    save_file(tensors, folder / "model.safetensors")


def test_golden_bundle_equals_torch_and_the_recorded_logits(out: Path) -> None:
    manifest = export_bundle(GOLDEN, out).manifest
    assert (manifest.family, manifest.context_mask, manifest.modes) == ("modernbert", "bidirectional", ("diffusion",))
    assert (manifest.mask_token_id, manifest.eos_token_ids, manifest.pad_token_id, manifest.bos_token_id) == (251, (249,), 250, 248)
    assert (manifest.block_length, manifest.max_context) == (32, 128)
    report = verify_bundle(out, GOLDEN)
    assert {"recorded plain", "recorded left_pad", "recorded right_pad"} <= {result.name for result in report.results}
    assert report.passed, report
    assert report.largest_error <= 1e-4


@pytest.mark.parametrize(
    "changes",
    [
        ALL_BIASES | {"hidden_activation": "gelu_pytorch_tanh", "classifier_activation": "silu", "num_attention_heads": 4},
        {"decoder_bias": False, "tie_word_embeddings": False, "local_attention": 7, "vocab_size": 301, "norm_eps": 1e-6},
        {"layer_types": [KINDS[kind] for kind in "SFSF"], "rope_parameters": NEWER_ROPE, "hidden_activation": "relu"},
        {"layer_types": [KINDS[kind] for kind in "FF"], "num_hidden_layers": 2},
        {"layer_types": [KINDS[kind] for kind in "S"], "num_hidden_layers": 1, "local_attention": 0, "max_position_embeddings": 20},
        {"global_attn_every_n_layers": 2, "local_rope_theta": None, "hidden_size": 40, "num_attention_heads": 2, "intermediate_size": 33},
    ],
)
def test_switches_and_sizes(modernbert: Path, out: Path, changes: dict[str, Any]) -> None:
    redraw(modernbert, **changes)
    export_bundle(modernbert, out)
    report = verify_bundle(out, modernbert)
    assert report.passed, report


def test_local_layers_see_their_window_by_position() -> None:
    """One local layer, identical tokens: a position's logits change with what is within the window and with nothing else."""
    config = ModernBertConfig(
        vocab_size=11,
        hidden_size=8,
        intermediate_size=8,
        layers=1,
        heads=2,
        norm_eps=1e-5,
        window=2,
        global_theta=100.0,
        local_theta=100.0,
        local_layers=frozenset({0}),
    )
    torch.manual_seed(0)
    module = ModernBertBackbone(config).module()
    mask = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    with torch.no_grad():
        near, far = (module(torch.tensor([[1, 2, 3, token]]), torch.tensor([[0, 1, 5, 3]]), mask)[0] for token in (4, 5))
    assert [torch.equal(near[0, index], far[0, index]) for index in range(3)] == [True, False, False]


def test_older_and_newer_configs_say_the_same(modernbert: Path) -> None:
    older = config_of(modernbert)
    assert [older.is_local(layer) for layer in range(4)] == [False, True, True, False]
    assert (older.window, older.global_theta, older.local_theta) == (4, 160_000.0, 10_000.0)
    remove_config(modernbert, "global_attn_every_n_layers", "global_rope_theta", "local_rope_theta")
    assert config_of(modernbert) == older
    set_config(modernbert, layer_types=[KINDS[kind] for kind in "FSSF"], rope_parameters=NEWER_ROPE)
    newer = config_of(modernbert)
    assert [newer.is_local(layer) for layer in range(4)] == [older.is_local(layer) for layer in range(4)]
    assert (newer.global_theta, newer.local_theta) == (700.0, 50.0)


def test_no_local_theta_of_its_own(modernbert: Path) -> None:
    set_config(modernbert, local_rope_theta=None)
    assert config_of(modernbert).local_theta == 160_000.0


def test_the_table_stored_as_the_head_alone(modernbert: Path) -> None:
    def logits() -> torch.Tensor:
        ids = torch.arange(8)[None]
        with torch.no_grad():
            return load_module(Checkpoint.open(modernbert))(ids, ids, torch.ones(1, 1, 8, 8, dtype=torch.bool))[0]

    expected = logits()
    tensors = load_file(modernbert / "model.safetensors")
    save_file({"decoder.weight" if key == TABLE else key: tensor for key, tensor in tensors.items()}, modernbert / "model.safetensors")
    assert torch.equal(logits(), expected)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_activation", "mish", "hidden_activation: is 'mish', only 'gelu'"),
        ("classifier_activation", "mish", "classifier_activation: is 'mish'"),
        ("layer_types", ["full_attention"], "layer_types: has to name full_attention or sliding_attention for each of num_hidden_layers=4"),
        ("layer_types", ["full_attention", "chunked_attention"] * 2, "layer_types: has to name"),
        ("rope_parameters", {"rope_theta": 1e4}, "rope_parameters.rope_theta: is not understood"),
        ("rope_parameters", {"full_attention": {"rope_type": "yarn"}}, "rope_parameters.full_attention.rope_type: is 'yarn'"),
        ("rope_scaling", {"rope_type": "linear", "factor": 2}, "rope_scaling: is"),
        ("global_attn_every_n_layers", 0, "global_attn_every_n_layers: is 0, expected a whole number from 1"),
        ("local_attention", -1, "local_attention: is -1"),
        ("head_dim", 8, "head_dim: is 8, only 16"),
        ("num_attention_heads", 16, "sizes: do not fit together: head_dim=3 must be even"),
        ("norm_bias", 1, "norm_bias: is 1, expected true or false"),
        ("quantization_config", {"bits": 4}, "quantization_config: is"),
    ],
)
def test_config_that_cannot_be_computed_exactly_is_refused(modernbert: Path, field: str, value: object, message: str) -> None:
    set_config(modernbert, **{field: value})
    with pytest.raises(CheckpointError) as caught:
        config_of(modernbert)
    assert message in str(caught.value)
