"""The targets, as what was tried with ONNX Runtime 1.31 and TensorRT for RTX 1.7.1 says they should be."""

from __future__ import annotations

from typing import get_args

from dlm_runtime.bundle import EngineName, Precision

from ..graph.builder import LOWEST_OPSET
from ..rewrites.attention import AttentionKernels, attention
from ..rewrites.gelu import ERF_GELU, TANH_GELU
from ..rewrites.rms_normalization import RMS_NORMALIZATION
from .target import AppliedRewrite, ExportTarget

TARGET_NAMES: tuple[EngineName, ...] = get_args(EngineName)

RTX_OPSET = 23  # RMSNormalization came with it

# What TensorRT for RTX 1.7.1.116 has kernels for. Not among RTX_REWRITES: where one network has 5 or more of these operators and a
# conditional, its builder dies of a segmentation fault (4 build; 34 do without the conditional). Mask, cache, head count, scale and
# optimisation level make no difference. The conditionals are those of ParallelUnmask and ShapeLogits: of step graphs with 6, 12 and 24
# layers the first two built, by luck. A plugin in ParallelUnmask's place does not help, for ShapeLogits' conditional stays: 6 layers
# built, 12 and 24 died; 12 built with the plugin and without ShapeLogits. Seven operators build at any depth.
# tests/export/rewrites/test_rtx_builds.py tells when a newer version builds them.
RTX_ATTENTION = attention(AttentionKernels(smallest_head=9, largest_head=256, fewest_heads=2))

RTX_REWRITES = (
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
    if name in ("tensorrt-rtx", "tensorrt"):
        return tensorrt_target(name, precision, lowest_opset)
    raise ValueError(f"target {name!r} is none of {', '.join(TARGET_NAMES)}")


def onnxruntime_target(precision: Precision, lowest_opset: int) -> ExportTarget:
    """No rewrites: ONNX Runtime fuses these patterns itself when it loads a model."""
    why = "The oldest operator set that has all that is used, so that runtimes of many years take the file."
    return ExportTarget("onnxruntime", precision, max(LOWEST_OPSET, lowest_opset), 10, why)


def tensorrt_target(name: EngineName, precision: Precision, lowest_opset: int) -> ExportTarget:
    """Newer operators where anything is narrower than float32; else the very graph that ONNX Runtime gets.

    Full TensorRT, which could not be tried, gets what was tried with TensorRT for RTX: they share their parser.
    """
    if precision == "fp32" and lowest_opset <= LOWEST_OPSET:
        why = "Nothing in it needs a newer operator, so the graph stays the one that ONNX Runtime gets."
        return ExportTarget(name, precision, LOWEST_OPSET, 10, why)
    why = "The newest of the operators that the rewrites write, RMSNormalization, came with operator set 23."
    return ExportTarget(name, precision, max(RTX_OPSET, lowest_opset), 11, why, RTX_REWRITES)
