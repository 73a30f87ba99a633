"""What may be asked of a builder, without any: cards, limits, plugins, and the command's way there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dlm_export.engine_choice import EngineChoice
from dlm_export.engines.builders import TENSORRT, TENSORRT_RTX, Builder
from dlm_export.engines.engine_options import EngineOptions, builder_of, compute_capabilities
from dlm_export.engines.errors import EngineError
from dlm_export.errors import OptionError
from dlm_export.export_options import ExportOptions
from dlm_runtime.bundle import Bundle, Manifest


@pytest.fixture
def manifest(golden_bundle_path: Path) -> Manifest:
    """Of the golden checkpoint: 512 tokens of context, blocks of 8."""
    found = Bundle.load(golden_bundle_path, verify_hashes=False).manifest
    return found.model_copy(update={"max_context": 2048, "block_length": 8})


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, ()), ("86", ("86",)), ("120, 86,8.9", ("86", "89", "120")), ("sm_80,SM121,80", ("80", "121")), ("12.0", ("120",))],
)
def test_compute_capabilities(text: str | None, expected: tuple[str, ...]) -> None:
    assert compute_capabilities(text, TENSORRT_RTX) == expected


@pytest.mark.parametrize("text", ["", "86,", "70", "90", "ampere", "86;89", "-86", "860", "٨٦"])
def test_other_compute_capabilities_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match=r"--compute-capability .* give a comma-separated choice of 75, 80, 86, 89, 120, 121"):
        compute_capabilities(text, TENSORRT_RTX)


def test_full_tensorrt_builds_for_the_card_in_the_machine() -> None:
    assert compute_capabilities(None, TENSORRT) == ()
    with pytest.raises(OptionError, match="--compute-capability 86: TensorRT builds for the card in the machine; leave it out"):
        compute_capabilities("86", TENSORRT)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_batch": 0}, "--max-batch 0: give at least 1"),
        ({"max_batch": -3}, "--max-batch -3"),
        ({"max_prefill": 0}, "--max-prefill 0: give at least 1"),
        ({"timeout_s": 0.0}, r"--build-timeout 0\.0: give more than 0 seconds"),
        ({"plugin": "nowhere/libdlm.so"}, r"--plugin nowhere/libdlm\.so: is no file\. Give none, python, or the path"),
    ],
)
def test_impossible_options_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        EngineOptions(TENSORRT_RTX, **fields)


def test_a_plugin_library_has_to_exist(tmp_path: Path) -> None:
    library = tmp_path / "libdlm_unmask.so"
    library.touch()
    assert EngineOptions(TENSORRT_RTX, plugin=str(library)).plugin == str(library)
    with pytest.raises(OptionError, match="is no file"):
        EngineOptions(TENSORRT_RTX, plugin=str(tmp_path))


def test_more_rows_than_an_engine_can_count() -> None:
    assert EngineOptions(TENSORRT_RTX, max_batch=2**16).max_batch == 65536
    with pytest.raises(OptionError, match=r"--max-batch 65537: give at most 65536"):
        EngineOptions(TENSORRT_RTX, max_batch=65537)


def test_a_timeout_that_is_no_number() -> None:
    with pytest.raises(OptionError, match=r"--build-timeout nan: give more than 0 seconds"):
        EngineOptions(TENSORRT_RTX, timeout_s=float("nan"))


def test_limits(manifest: Manifest) -> None:
    limits = EngineOptions(TENSORRT_RTX).checked(manifest)
    assert (limits.max_batch, limits.max_context, limits.max_prefill, limits.block_length) == (8, 2048, 512, 8)
    small = EngineOptions(TENSORRT_RTX, max_context=6, max_prefill=100).checked(manifest)
    assert (small.max_context, small.max_prefill, small.block_length) == (6, 6, 6)


def test_a_bidirectional_model_runs_prompts_whole(manifest: Manifest) -> None:
    whole = manifest.model_copy(update={"context_mask": "bidirectional"})
    assert EngineOptions(TENSORRT_RTX).checked(whole).max_prefill == 2048
    assert EngineOptions(TENSORRT_RTX, max_prefill=100).checked(whole).max_prefill == 100


@pytest.mark.parametrize("context", [1, 0, -1, 2049])
def test_more_context_than_the_models_is_refused(manifest: Manifest, context: int) -> None:
    with pytest.raises(OptionError, match=rf"--max-context {context}: the bundle's is 2048; give 2 to 2048"):
        EngineOptions(TENSORRT_RTX, max_context=context).checked(manifest)


def test_a_library_that_is_not_there() -> None:
    missing = Builder("tensorrt-rtx", "TensorRT for RTX", "no_such_module_anywhere")
    with pytest.raises(EngineError, match=r"TensorRT for RTX is not installed.*pip install 'dlm-npc\[tensorrt-rtx\]'.*--graph-only"):
        missing.check_installed()


def test_targets_with_builders() -> None:
    assert builder_of("tensorrt-rtx") is TENSORRT_RTX
    assert builder_of("tensorrt") is TENSORRT
    with pytest.raises(OptionError, match="--target onnxruntime: builds no engines; give one of tensorrt-rtx, tensorrt"):
        builder_of("onnxruntime")


def test_no_engine_is_built_where_none_is_asked_for() -> None:
    assert EngineChoice().for_export("onnxruntime", graph_only=False) is None
    assert EngineChoice().for_export("tensorrt-rtx", graph_only=True) is None
    options = EngineChoice(compute_capability="89", max_batch=2, plugin="python", build_timeout=5).for_export(
        "tensorrt-rtx", graph_only=False
    )
    assert options == EngineOptions(TENSORRT_RTX, ("89",), 2, plugin="python", timeout_s=5)


@pytest.mark.parametrize(
    ("target", "graph_only", "words"),
    [
        ("onnxruntime", False, "--max-batch 4: is about an engine, and --target onnxruntime has none"),
        ("tensorrt-rtx", True, "--max-batch 4: is about an engine, and --graph-only builds none"),
    ],
)
def test_options_without_an_engine_are_refused(target: str, graph_only: bool, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        EngineChoice(max_batch=4).for_export(target, graph_only=graph_only)


def test_builder_and_target_agree() -> None:
    with pytest.raises(OptionError, match="--target onnxruntime: TensorRT for RTX builds engines for tensorrt-rtx"):
        ExportOptions(engine=EngineOptions(TENSORRT_RTX))
