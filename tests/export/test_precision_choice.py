"""From names to arithmetic, and which layers are left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dlm_export.errors import OptionError
from dlm_export.precision import PrecisionChoice
from dlm_export.precision.float32 import Float32Linear
from dlm_export.precision.int4 import Int4Linear
from dlm_export.precision.kept_layers import KeptLayers
from dlm_export.weights import LinearWeight
from onnx import TensorProto


@pytest.mark.parametrize(
    ("choice", "embedding", "head", "cache"),
    [
        (PrecisionChoice(), "fp32", "fp32", "float32"),
        (PrecisionChoice("fp16"), "fp16", "fp16", "float32"),
        (PrecisionChoice("bf16", head="int8"), "bf16", "int8", "float32"),
        (PrecisionChoice("int8"), "fp32", "int8", "float32"),
        (PrecisionChoice("int8", stored="bf16"), "bf16", "int8", "float32"),
        (PrecisionChoice("int4", stored="bf16", target="tensorrt-rtx"), "fp16", "int4", "float16"),
        (PrecisionChoice("int4", embedding="int8"), "int8", "int4", "float32"),
        (PrecisionChoice("fp16", target="tensorrt-rtx"), "fp16", "fp16", "float16"),
        (PrecisionChoice("bf16", target="tensorrt-rtx"), "bf16", "bf16", "bfloat16"),
        (PrecisionChoice("int8", target="tensorrt-rtx"), "fp16", "int8", "float16"),
        (PrecisionChoice("fp32", head="int4", target="tensorrt-rtx"), "fp32", "int4", "float32"),
    ],
)
def test_what_is_left_out(choice: PrecisionChoice, embedding: str, head: str, cache: str) -> None:
    assert (choice.embedding_in_use, choice.head_in_use, choice.cache) == (embedding, head, cache)
    fields = choice.manifest_fields()
    assert (fields["precision"], fields["embedding_precision"], fields["cache_type"]) == (choice.layers, embedding, cache)
    assert fields["head_precision"] == choice.head


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": "fp8"}, "--precision fp8: give one of fp32, fp16, bf16, int8, int4"),
        ({"embedding": "int4"}, "--embedding-precision int4: give one of fp32, fp16, bf16, int8"),
        ({"head": "int2"}, "--head-precision int2: give one of fp32, fp16, bf16, int8, int4"),
        ({"target": "toaster"}, "--target toaster: give one of onnxruntime, tensorrt-rtx"),
    ],
)
def test_unknown_names(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        PrecisionChoice(**fields)


def test_kept_layers_stay_fp32_and_the_head_does_not_count_as_one() -> None:
    arithmetic = PrecisionChoice("int4", kept=("layers.0.*", "*.down_proj")).arithmetic()

    def writer(node: str, *, is_head: bool = False) -> object:
        return arithmetic.writer(LinearWeight(node, f"{node}.weight", np.zeros((1, 1), np.float32), is_head))

    assert writer("layers.0.self_attn.o_proj") == Float32Linear() or isinstance(writer("layers.0.self_attn.o_proj"), Float32Linear)
    assert isinstance(writer("layers.7.mlp.down_proj"), Float32Linear)
    assert isinstance(writer("layers.10.self_attn.o_proj"), Int4Linear)
    assert isinstance(writer("layers.0.head", is_head=True), Int4Linear)
    arithmetic.kept.check()


def test_a_pattern_without_a_layer_is_an_error_that_shows_some() -> None:
    kept = KeptLayers(("*.gate_proj",))
    for layer in range(5):
        assert not kept.keeps(f"layers.{layer}.mlp.gate_up_proj")
        assert not kept.keeps(f"layers.{layer}.mlp.down_proj")
    with pytest.raises(OptionError, match=r"--keep-fp32 \*\.gate_proj: no layer .*layers\.0\.mlp\.gate_up_proj, .* and 4 more"):
        kept.check()


def test_no_layers_at_all() -> None:
    KeptLayers().check()


def test_every_graph_gets_a_memory_of_its_own() -> None:
    choice = PrecisionChoice(kept=("a",))
    assert choice.arithmetic().kept.keeps("a")
    with pytest.raises(OptionError):
        choice.arithmetic().kept.check()


def test_cache_types_are_onnx_types() -> None:
    assert PrecisionChoice("bf16", target="tensorrt-rtx").arithmetic().cache_type == TensorProto.BFLOAT16
