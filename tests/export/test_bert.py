"""BERT: recorded logits, every switch of its config, and what older checkpoints call its tensors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dlm_export.checkpoint import Checkpoint
from dlm_export.errors import CheckpointError
from dlm_export.export_options import ExportOptions
from dlm_export.exporting import export_bundle
from dlm_export.families import SpecialOverrides, family_of
from dlm_export.loading import load_module
from dlm_export.verify import verify_bundle
from dlm_export.verify.session import StepSession
from dlm_runtime.bundle import Bundle
from dlm_runtime.engines.neutral import neutral_inputs
from safetensors.torch import load_file, save_file

GOLDEN = Path(__file__).parents[1] / "fixtures" / "bert"
WORDS = "bert.embeddings.word_embeddings.weight"
BIAS = "cls.predictions.bias"
DECODER = "cls.predictions.decoder.weight"
DECODER_BIAS = "cls.predictions.decoder.bias"
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A writable copy of the golden checkpoint, without its recorded logits."""
    return shutil.copytree(GOLDEN, tmp_path / "bert", ignore=shutil.ignore_patterns("logits.npz", "samples.json"))


def set_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def change_tensors(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file)


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


def logits_of(folder: Path) -> torch.Tensor:
    """Logits of eight tokens, by the torch module."""
    ids = torch.arange(8)[None]
    with torch.no_grad():
        return load_module(Checkpoint.open(folder))(ids, ids, torch.ones(1, 1, 8, 8, dtype=torch.bool))[0]


def test_golden_bundle_equals_torch_and_the_recorded_logits(out: Path) -> None:
    manifest = export_bundle(GOLDEN, out).manifest
    assert (manifest.family, manifest.context_mask, manifest.modes) == ("bert", "bidirectional", ("diffusion",))
    assert (manifest.mask_token_id, manifest.eos_token_ids, manifest.pad_token_id, manifest.bos_token_id) == (103, (102,), 0, 101)
    assert (manifest.block_length, manifest.max_context) == (32, 64)
    report = verify_bundle(out, GOLDEN)
    assert {"recorded plain", "recorded left_pad", "recorded right_pad"} <= {result.name for result in report.results}
    assert report.passed, report
    assert report.largest_error <= 1e-4


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "gelu_new", "type_vocab_size": 1, "num_attention_heads": 1, "num_hidden_layers": 1},
        {"hidden_act": "relu", "tie_word_embeddings": False, "vocab_size": 301, "hidden_size": 40, "num_attention_heads": 8},
        {"hidden_act": "silu", "max_position_embeddings": 24, "layer_norm_eps": 1e-5, "intermediate_size": 50},
    ],
)
def test_switches_and_sizes(bert: Path, out: Path, changes: dict[str, Any]) -> None:
    redraw(bert, **changes)
    manifest = export_bundle(bert, out).manifest
    assert manifest.block_length == min(32, manifest.max_context)
    report = verify_bundle(out, bert)
    assert report.passed, report


def test_int8(bert: Path, out: Path) -> None:
    """The layer before the head runs on the window alone, whatever its size."""
    export_bundle(bert, out, ExportOptions(precision="int8"))
    report = verify_bundle(out, bert)
    assert report.passed, report


def test_padding_beyond_the_position_table(bert: Path, out: Path) -> None:
    export_bundle(bert, out)
    session, zeros = StepSession(Bundle.load(out)), np.zeros(1, np.int64)
    past = {f"past.{layer}.{part}": np.zeros((1, 3, 0, 16), np.float32) for layer in (0, 1) for part in ("key", "value")}

    def logits(position: int) -> np.ndarray:
        feed = neutral_inputs(1) | {
            "input_ids": np.array([[7, 8, 9]]),
            "position_ids": np.array([[62, 63, position]]),
            "past_lengths": zeros,
            "query_lengths": zeros + 2,
            "block_ids": np.zeros((1, 3), np.int64),
            "window_start": zeros,
            "allow_rows": np.zeros((1, 2), np.int64),
            "allow_table": np.zeros((1, 256), np.float32),
            "quota": zeros,
            "threshold": np.ones(1, np.float32),
            "temperature": np.zeros(1, np.float32),
            "seed": zeros,
            "step": zeros,
        }
        return session.run(feed | past).outputs["logits"]

    np.testing.assert_array_equal(logits(64), logits(0))


def test_first_checkpoints(bert: Path, out: Path) -> None:
    """Norms with gamma and beta, and the parts that are not needed to fill in masks."""
    expected = logits_of(bert)

    def as_in_2018(tensors: Tensors) -> Tensors:
        renamed = {
            key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
            for key, tensor in tensors.items()
        }
        others = {"bert.embeddings.position_ids": torch.arange(64)[None], "bert.pooler.dense.bias": torch.ones(48)}
        return renamed | others | {"cls.seq_relationship.bias": torch.ones(2)}

    change_tensors(bert, as_in_2018)
    assert torch.equal(logits_of(bert), expected)
    assert any("left out, 3 in all: bert.embeddings.position_ids" in note for note in export_bundle(bert, out).notes)


def test_a_stored_copy_of_the_tied_head(bert: Path) -> None:
    expected = logits_of(bert)
    change_tensors(bert, lambda tensors: tensors | {DECODER: tensors[WORDS].clone(), DECODER_BIAS: tensors[BIAS].clone()})
    assert torch.equal(logits_of(bert), expected)
    change_tensors(bert, lambda tensors: {key: tensor for key, tensor in tensors.items() if key not in (WORDS, BIAS)})
    assert torch.equal(logits_of(bert), expected)


def test_a_head_of_its_own_although_the_config_ties_it(bert: Path) -> None:
    change_tensors(bert, lambda tensors: tensors | {DECODER: tensors[WORDS] * 0, DECODER_BIAS: tensors[BIAS] + 1})
    assert torch.equal(logits_of(bert)[0, 0], load_file(bert / "model.safetensors")[DECODER_BIAS])


def test_untied_without_a_head(bert: Path) -> None:
    set_config(bert, tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=r"cls\.predictions\.decoder\.weight: is missing"):
        logits_of(bert)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("position_embedding_type", "relative_key", "position_embedding_type: is 'relative_key', only 'absolute'"),
        ("hidden_act", "mish", "hidden_act: is 'mish', only 'gelu'"),
        ("is_decoder", True, "is_decoder: is True"),
        ("add_cross_attention", True, "add_cross_attention: is True"),
        ("pruned_heads", {"0": [1]}, "pruned_heads: is"),
        ("quantization_config", {"bits": 4}, "quantization_config: is"),
        ("num_attention_heads", 5, "sizes: do not fit together: hidden_size=48 is not a multiple of heads=5"),
        ("layer_norm_eps", 0, "layer_norm_eps: is 0, expected a number above 0"),
        ("max_position_embeddings", None, "max_position_embeddings: is missing"),
        ("tie_word_embeddings", "yes", "tie_word_embeddings: is 'yes'"),
    ],
)
def test_config_that_cannot_be_computed_exactly_is_refused(bert: Path, field: str, value: object, message: str) -> None:
    set_config(bert, **{field: value})
    opened = Checkpoint.open(bert)
    with pytest.raises(CheckpointError) as caught:
        family_of(opened).backbone(opened)
    assert message in str(caught.value)


def test_no_mask_token(bert: Path) -> None:
    (bert / "added_tokens.json").unlink()
    opened = Checkpoint.open(bert)
    with pytest.raises(CheckpointError, match="mask_token_id: is missing"):
        family_of(opened).special_tokens(opened, SpecialOverrides())
    given = family_of(opened).special_tokens(opened, SpecialOverrides(mask_token_id=4, eos_token_ids=(5,)))
    assert (given.mask_token_id, given.eos_token_ids, given.pad_token_id) == (4, (5,), 0)
