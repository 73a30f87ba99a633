"""Targets: versions for every precision, and combinations that cannot be."""

from __future__ import annotations

from typing import Any, cast, get_args

import pytest
from dlm_export.rewrites.gelu import ERF_GELU
from dlm_export.targets import TARGET_NAMES, AppliedRewrite, ExportTarget, target_of
from dlm_runtime.bundle import Precision

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@pytest.mark.parametrize(
    ("name", "precision", "opset", "ir_version"),
    [
        ("onnxruntime", "fp32", 18, 10),
        ("onnxruntime", "fp16", 18, 10),
        ("onnxruntime", "bf16", 18, 10),
        ("onnxruntime", "int8", 18, 10),
        ("onnxruntime", "int4", 18, 10),
        ("tensorrt-rtx", "fp32", 18, 10),
        ("tensorrt-rtx", "fp16", 23, 11),
        ("tensorrt-rtx", "bf16", 23, 11),
        ("tensorrt-rtx", "int8", 23, 11),
        ("tensorrt-rtx", "int4", 23, 11),
        ("tensorrt", "fp32", 18, 10),
        ("tensorrt", "fp16", 23, 11),
    ],
)
def test_versions(name: Any, precision: Any, opset: int, ir_version: int) -> None:
    target = target_of(name, precision)
    assert (target.name, target.precision) == (name, precision)
    assert (target.opset, target.ir_version) == (opset, ir_version)


def test_an_element_type_may_ask_for_a_newer_operator_set() -> None:
    assert target_of("onnxruntime", "fp32", lowest_opset=21).opset == 21
    assert target_of("tensorrt-rtx", "fp16", lowest_opset=21).opset == 23
    mixed = target_of("tensorrt-rtx", "fp32", lowest_opset=21)  # a head in 8 bits below layers in float32
    assert (mixed.opset, mixed.ir_version) == (23, 11)
    assert mixed.rewrites


def test_only_tensorrt_in_half_precision_has_rewrites() -> None:
    named = {
        (name, precision): [applied.rewrite.name for applied in target_of(name, precision).rewrites]
        for name in TARGET_NAMES
        for precision in PRECISIONS
    }
    rewrites = ["gelu", "gelu_tanh", "rms_normalization"]
    engines = ("tensorrt-rtx", "tensorrt")
    assert {key for key, names in named.items() if names} == {
        (engine, precision) for engine in engines for precision in PRECISIONS if precision != "fp32"
    }
    assert all(names == rewrites for names in named.values() if names)


@pytest.mark.parametrize("name", TARGET_NAMES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_choice_is_explained(name: Any, precision: Precision) -> None:
    target = target_of(name, precision)
    for sentence in (target.why, *(applied.why for applied in target.rewrites)):
        assert not sentence[0].islower()
        assert sentence.endswith(".")


def test_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="target 'cuda' is none of onnxruntime, tensorrt-rtx, tensorrt"):
        target_of(cast(Any, "cuda"), "fp32")


@pytest.mark.parametrize(
    ("opset", "ir_version", "problem"),
    [(18, 10, "gelu needs opset 20, not 18"), (23, 10, "ir_version=10 is too old for opset=23"), (999, 11, "opset=999 is none")],
)
def test_impossible_targets_are_refused(opset: int, ir_version: int, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        ExportTarget("tensorrt-rtx", "fp16", opset, ir_version, "Why.", (AppliedRewrite(ERF_GELU, "Why."),))
