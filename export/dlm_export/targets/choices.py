"""The targets, as what was tried with ONNX Runtime 1.31 and TensorRT for RTX 1.7.1 says they should be."""

from __future__ import annotations

from typing import get_args

from dlm_runtime.bundle import EngineName, Precision

from ..rewrites.attention import AttentionKernels, attention
from ..rewrites.gelu import ERF_GELU, TANH_GELU
from ..rewrites.rms_normalization import RMS_NORMALIZATION
from .target import AppliedRewrite, ExportTarget

TARGET_NAMES: tuple[EngineName, ...] = get_args(EngineName)

RTX_ATTENTION = AttentionKernels(smallest_head=9, largest_head=256, fewest_heads=2)
ATTENTION_OPSET = 23
LOWEST_OPSET = 18

RTX_REWRITES = (
    AppliedRewrite(
        attention(RTX_ATTENTION),
        "The builder gives the operator one dedicated kernel or refuses it, where seven operators are fused only if it recognises them.",
    ),
    AppliedRewrite(ERF_GELU, "The parser makes it one layer instead of five."),
    AppliedRewrite(TANH_GELU, "The parser makes it one layer instead of nine."),
    AppliedRewrite(
        RMS_NORMALIZATION,
        "The parser takes it apart again, at no loss; whoever else reads the file finds one node instead of six.",
    ),
)


def target_of(name: EngineName, precision: Precision, *, lowest_opset: int = LOWEST_OPSET) -> ExportTarget:
    """What an engine gets in a precision, that of the layers.

    `lowest_opset` is what the element types in use ask for, where another part than the layers has a precision of its own. Raises
    ValueError for a name that is no target.
    """
    if name == "onnxruntime":
        return onnxruntime_target(precision, lowest_opset)
    if name == "tensorrt-rtx":
        return tensorrt_rtx_target(precision, lowest_opset)
    raise ValueError(f"target {name!r} is none of {', '.join(TARGET_NAMES)}")


def onnxruntime_target(precision: Precision, lowest_opset: int) -> ExportTarget:
    """No rewrites: ONNX Runtime fuses these patterns itself when it loads a model."""
    why = "The oldest operator set that has all that is used, so that runtimes of many years take the file."
    return ExportTarget("onnxruntime", precision, max(LOWEST_OPSET, lowest_opset), 10, why)


def tensorrt_rtx_target(precision: Precision, lowest_opset: int) -> ExportTarget:
    """Newer operators where anything is narrower than float32; else the very graph that ONNX Runtime gets."""
    if precision == "fp32" and lowest_opset <= LOWEST_OPSET:
        why = "There is no kernel for the Attention operator in float32, so the graph stays the one that ONNX Runtime gets."
        return ExportTarget("tensorrt-rtx", precision, LOWEST_OPSET, 10, why)
    why = "Attention came with operator set 23, and has kernels in half precision."
    return ExportTarget("tensorrt-rtx", precision, max(ATTENTION_OPSET, lowest_opset), 11, why, RTX_REWRITES)
