"""Checkpoint to bundle, whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import onnx
import pytest
from dlm_export import exporting
from dlm_export.checkpoint import Checkpoint
from dlm_export.errors import CheckpointError, OptionError
from dlm_export.export_options import ExportOptions
from dlm_export.exporting import export_bundle
from dlm_export.loading import load_module
from dlm_runtime.bundle import Bundle, Precision


def leftovers(out: Path) -> list[str]:
    """What lies beside the bundle."""
    return sorted(entry.name for entry in out.parent.iterdir()) if out.parent.exists() else []


def test_bundle_loads_and_says_what_it_is(golden_checkpoint: Path, out: Path) -> None:
    report = export_bundle(golden_checkpoint, out)
    bundle = Bundle.load(out)
    m = bundle.manifest
    assert m == report.manifest
    assert (m.name, m.family, m.architecture) == ("nemotron_labs_diffusion", "nemotron_labs_diffusion", "NemotronLabsDiffusionModel")
    assert (m.precision, m.opset, m.top_k, m.block_length, m.logit_shift, m.context_mask) == ("fp32", 18, 8, 8, 0, "causal")
    assert (m.mask_token_id, m.bos_token_id, m.eos_token_ids, m.banned_token_ids) == (100, 1, (11,), (100,))
    assert (m.modes, m.default_mode, m.default_threshold) == (("diffusion", "self_speculation", "ar"), "diffusion", 0.9)
    assert m.source.checkpoint == "nemotron_labs_diffusion"
    assert bundle.tokenizer_path is None
    assert leftovers(out) == ["bundle"]
    assert report.size_bytes == sum(file.stat().st_size for file in out.iterdir())


def test_checkpoint_without_tokenizer_is_noted(golden_checkpoint: Path, out: Path) -> None:
    notes = export_bundle(golden_checkpoint, out).notes
    assert [note.split(":")[0] for note in notes] == ["The checkpoint has no tokenizer.json", "The checkpoint has no chat template"]


def test_tokenizer_and_template_are_carried_over(checkpoint: Any, out: Path) -> None:
    checkpoint.add_tokenizer()
    report = export_bundle(checkpoint.path, out, ExportOptions(name="tavern"))
    assert report.notes == ()
    assert (out / "tokenizer.json").read_bytes() == (checkpoint.path / "tokenizer.json").read_bytes()
    manifest = Bundle.load(out).manifest
    assert manifest.name == "tavern"
    assert manifest.chat_template == (checkpoint.path / "chat_template.jinja").read_text(encoding="utf-8")
    assert manifest.banned_token_ids == (100, 103)  # special tokens, the end-of-text id 11 excepted


PLAIN = "{% for message in messages %}{{ message['content'] }} {% endfor %}"


@pytest.mark.parametrize("template", [PLAIN, [{"name": "tool", "template": "no"}, {"name": "default", "template": PLAIN}]])
def test_template_from_tokenizer_config(checkpoint: Any, out: Path, template: object) -> None:
    (checkpoint.path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}), encoding="utf-8")
    export_bundle(checkpoint.path, out)
    assert Bundle.load(out).manifest.chat_template == PLAIN


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tokenizer.json", "{", "tokenizer.json: is not readable JSON"),
        (
            "tokenizer.json",
            '{"added_tokens": [{"id": 256, "content": "x", "special": true}]}',
            "added_tokens: holds id 256, the model has 256",
        ),
        ("tokenizer.json", '{"added_tokens": [{"special": true}]}', "added_tokens: has an entry without id"),
        ("tokenizer_config.json", '{"chat_template": [{"name": []}, {"name": "default", "template": 3}]}', "chat_template: is 3"),
        ("tokenizer_config.json", '{"chat_template": 3}', "chat_template: is 3, expected text"),
    ],
)
def test_broken_tokenizer_files(checkpoint: Any, out: Path, name: str, text: str, message: str) -> None:
    (checkpoint.path / name).write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        export_bundle(checkpoint.path, out)
    assert message in str(caught.value)
    assert leftovers(out) == []


def test_ids_beyond_the_vocabulary(checkpoint: Any, out: Path) -> None:
    checkpoint.config(mask_token_id=256)
    with pytest.raises(CheckpointError, match=r"mask_token_id: is 256, which is not an id of this model \(vocab_size is 256\)"):
        export_bundle(checkpoint.path, out)


def test_tied_head_is_stored_once(checkpoint: Any, out: Path) -> None:
    checkpoint.tie()
    export_bundle(checkpoint.path, out)
    shapes = [tuple(tensor.dims) for tensor in onnx.load(out / "model.onnx").graph.initializer]
    assert shapes.count((256, 64)) == 1
    assert (64, 256) not in shapes


def test_surplus_tensors_are_noted(checkpoint: Any, out: Path) -> None:
    checkpoint.tensors(lambda tensors: tensors.update({"extra.weight": tensors["encoder.norm.weight"].clone()}))
    assert export_bundle(checkpoint.path, out).notes[-1].endswith("were left out, 1 in all: extra.weight")


def test_int8_is_smaller(golden_checkpoint: Path, out: Path, golden_bundle_path: Path) -> None:
    report = export_bundle(golden_checkpoint, out, ExportOptions(precision="int8"))
    assert report.manifest.precision == "int8"
    assert report.size_bytes < 0.5 * sum(file.stat().st_size for file in golden_bundle_path.iterdir())


def test_large_weights_go_to_a_file_of_their_own(golden_checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "INLINE_LIMIT_NUMBERS", 1000)
    export_bundle(golden_checkpoint, out)
    bundle = Bundle.load(out)
    assert set(bundle.manifest.files) == {"model.onnx", "model.onnx.data"}
    assert (out / "model.onnx").stat().st_size < (out / "model.onnx.data").stat().st_size


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_same_weights_give_the_same_model_to_the_bit(checkpoint: Any, out: Path, precision: Precision) -> None:
    """Whatever the folder is called and however the weights are spread over files."""
    first = export_bundle(checkpoint.path, out / "first", ExportOptions(precision=precision)).manifest
    checkpoint.shard()
    renamed = checkpoint.path.rename(checkpoint.path.with_name("renamed"))
    second = export_bundle(renamed, out / "second", ExportOptions(precision=precision)).manifest
    assert first.files == second.files


def test_more_layers_than_weights_are_told_at_once(checkpoint: Any, out: Path) -> None:
    checkpoint.config(num_hidden_layers=2**31 - 1)
    with pytest.raises(CheckpointError, match=r"encoder\.layers\.2\.input_layernorm\.weight: is missing"):
        export_bundle(checkpoint.path, out)
    with pytest.raises(CheckpointError, match=r"encoder\.layers\.2\.input_layernorm\.weight: is missing"):
        load_module(Checkpoint.open(checkpoint.path))


def test_folder_whose_name_is_no_text(checkpoint: Any, out: Path) -> None:
    folder = checkpoint.path.rename(checkpoint.path.with_name(os.fsdecode(b"check\xffpoint")))
    manifest = export_bundle(folder, out).manifest
    assert (manifest.name, manifest.source.checkpoint) == ("check?point", "check?point")


def test_name_that_is_no_text(golden_checkpoint: Path, out: Path) -> None:
    with pytest.raises(OptionError, match=r"--name 'x\\ud800': it holds bytes that are no text"):
        export_bundle(golden_checkpoint, out, ExportOptions(name="x\ud800"))
    assert leftovers(out) == []


@pytest.mark.parametrize("fields", ['{"chat_template": "a\\ud800"}', '{"chat_template": "{{ eos_token }}", "eos_token": "\\udfff"}'])
def test_template_that_is_no_text(checkpoint: Any, out: Path, fields: str) -> None:
    (checkpoint.path / "tokenizer_config.json").write_text(fields, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json: chat_template: holds half of a surrogate pair"):
        export_bundle(checkpoint.path, out)
    assert leftovers(out) == []
