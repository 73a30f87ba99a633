"""Loading a bundle: what is checked, and what is said when it is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dlm_runtime.bundle import Bundle, write_manifest
from dlm_runtime.engines import fake_manifest
from dlm_runtime.errors import BundleError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good bundle with a model that nobody opens."""
    path = tmp_path / "bundle"
    path.mkdir()
    (path / "model.onnx").write_bytes(b"model")
    (path / "tokenizer.json").write_text("{}", encoding="utf-8")
    write_manifest(path, fake_manifest())
    return path


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "manifest.json"
    fields = json.loads(file.read_text(encoding="utf-8"))
    change(fields)
    file.write_text(json.dumps(fields), encoding="utf-8")


def complaint(folder: Path, **options: bool) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.load(folder, **options)
    assert caught.value.remedy
    return str(caught.value)


def test_what_was_written_is_loaded(folder: Path) -> None:
    bundle = Bundle.load(folder)
    assert bundle.model_path.read_bytes() == b"model"
    assert bundle.tokenizer_path == folder / "tokenizer.json"
    assert set(bundle.manifest.files) == {"model.onnx", "tokenizer.json"}
    assert bundle.manifest.model_copy(update={"files": {}}) == fake_manifest()
    assert Bundle.load(str(folder)).manifest == bundle.manifest


def test_tokenizer_is_optional(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    write_manifest(folder, fake_manifest())
    assert Bundle.load(folder).tokenizer_path is None


def test_no_folder(tmp_path: Path) -> None:
    assert "is not a folder" in complaint(tmp_path / "nothing")


def test_no_manifest(tmp_path: Path) -> None:
    assert "manifest.json: does not exist" in complaint(tmp_path)


@pytest.mark.parametrize("relative", ["a\0b", "a" * 5000, "loop"])
def test_path_that_is_none(folder: Path, relative: str) -> None:
    (folder / "loop").symlink_to(folder / "loop")
    edit(folder, lambda fields: fields["files"].update({relative: "0" * 64}))
    assert "manifest.json: files lists" in complaint(folder)


def test_checkpoint_where_a_bundle_should_be(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert "This is a checkpoint, not a bundle" in complaint(tmp_path)


def test_fields_that_contradict_each_other_are_told_in_plain_words(folder: Path) -> None:
    edit(folder, lambda fields: fields.update(kv_heads=3))
    assert "manifest.json: heads=1 is not a multiple of kv_heads=3. Export" in complaint(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [(b"[" * 100_000, "is not JSON"), (b"{", "is not JSON"), (b"[]", "JSON list"), (b"\xff\xfe", "cannot be read"), (b"{}", "None")],
)
def test_manifest_that_is_none(folder: Path, text: bytes, said: str) -> None:
    (folder / "manifest.json").write_bytes(text)
    assert said in complaint(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layers", 0),
        ("layers", "2"),
        ("precision", "fp7"),
        ("unheard_of", 1),
        ("mask_token_id", 97),
        ("eos_token_ids", []),
        ("eos_token_ids", [1]),
        ("default_mode", "telepathy"),
        ("modes", ["ar"]),
        ("kv_heads", 3),
        ("default_threshold", 1.5),
        ("block_length", 10_000),
    ],
)
def test_field_that_cannot_be(folder: Path, field: str, value: object) -> None:
    edit(folder, lambda fields: fields.update({field: value}))
    assert field in complaint(folder)


def test_missing_field(folder: Path) -> None:
    edit(folder, lambda fields: fields.pop("vocab_size"))
    assert "manifest.json: vocab_size is missing" in complaint(folder)


def test_schema_version_of_another_release(folder: Path) -> None:
    edit(folder, lambda fields: fields.update(schema_version=2))
    assert "schema_version=2" in complaint(folder)


def test_changed_file(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"other")
    assert "model.onnx: has sha256" in complaint(folder)
    assert Bundle.load(folder, verify_hashes=False).model_path.exists()


@pytest.mark.parametrize("verify_hashes", [True, False])
def test_missing_file(folder: Path, verify_hashes: bool) -> None:
    (folder / "model.onnx").unlink()
    assert "model.onnx: is listed in the manifest but missing" in complaint(folder, verify_hashes=verify_hashes)


@pytest.mark.parametrize("relative", ["../secret", "/etc/hostname", "a/../../secret", "C:\\secret", "..\\secret"])
def test_path_that_leaves_the_folder(folder: Path, relative: str) -> None:
    (folder.parent / "secret").write_text("x")
    edit(folder, lambda fields: fields["files"].update({relative: "0" * 64}))
    assert "leaves the folder" in complaint(folder)


def test_link_that_leaves_the_folder(folder: Path) -> None:
    outside = folder.parent / "outside.onnx"
    outside.write_bytes(b"model")
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(outside)
    assert "leaves the folder" in complaint(folder)


def test_target_that_is_not_listed(folder: Path) -> None:
    edit(folder, lambda fields: fields["files"].pop("model.onnx"))
    assert "not among the manifest's files" in complaint(folder)


@pytest.mark.parametrize("verify_hashes", [True, False])
@pytest.mark.parametrize("relative", ["model.onnx.data", "WEIGHTS.BIN", "other.onnx", "model.onnx_data", "sub/a.weight", "layer.data"])
def test_weights_that_nobody_vouches_for(folder: Path, relative: str, verify_hashes: bool) -> None:
    (folder / "sub").mkdir()
    (folder / relative).write_bytes(b"weights")
    assert f"{relative}: is not among the manifest's files. Remove it" in complaint(folder, verify_hashes=verify_hashes)


def test_a_link_to_weights_elsewhere(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"weights")
    (folder / "model.onnx.data").symlink_to(tmp_path / "elsewhere")
    assert "model.onnx.data: is not among the manifest's files" in complaint(folder)


def test_notes_beside_a_model_and_weights_that_are_listed(folder: Path) -> None:
    (folder / "model.onnx.data").write_bytes(b"weights")
    (folder / "sub").mkdir()
    (folder / "sub" / "more.bin").write_bytes(b"weights")
    write_manifest(folder, fake_manifest())
    (folder / "README.md").write_text("Notes", encoding="utf-8")
    (folder / "pictures.data").mkdir()
    edit(folder, lambda fields: fields["files"].update({"./sub//more.bin": fields["files"].pop("sub/more.bin")}))
    assert Bundle.load(folder).manifest.files.keys() == {"model.onnx", "model.onnx.data", "./sub//more.bin", "tokenizer.json"}


def test_fields_of_bundles_that_cannot_be_served_yet_are_known(folder: Path) -> None:
    caches = [[2, 4]]
    edit(folder, lambda fields: fields.update(context_mask="block_causal", mask_token_id=None, cache_type="float16", layer_caches=caches))
    manifest = Bundle.load(folder).manifest
    assert (manifest.context_mask, manifest.mask_token_id, manifest.cache_type) == ("block_causal", None, "float16")
    assert manifest.cache_shape(0) == (2, 4)


def test_a_cache_for_every_layer(folder: Path) -> None:
    edit(folder, lambda fields: fields.update(layer_caches=[[1, 2], [1, 2]]))
    assert "layer_caches has 2 entries for layers=1" in complaint(folder)
