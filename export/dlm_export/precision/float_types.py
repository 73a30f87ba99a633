"""The element types that weights can be stored in without a scale of their own, and the way into them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray
from onnx import TensorProto

from ..graph.builder import GraphBuilder
from ..weights import LinearWeight, StackedWeight
from .overflow import HalfOverflow


@dataclass(frozen=True)
class FloatType:
    """A floating-point type: its short name, and what numpy and ONNX call it. `largest` is its largest finite number."""

    name: str
    dtype: DTypeLike
    onnx: int
    largest: float

    def narrowed(self, values: NDArray[Any], tensor: str) -> NDArray[Any]:
        """`values` in this type, rounded to the nearest, in C order. Raises HalfOverflow naming `tensor` where one becomes infinite."""
        if self.name == "fp16" and values.size:
            peak = max(float(values.max()), -float(values.min()))  # abs() would copy a whole table of the vocabulary
            if peak > self.largest:
                raise HalfOverflow(tensor, peak)
        return values.astype(self.dtype, order="C", copy=False)


FP32 = FloatType("fp32", np.float32, TensorProto.FLOAT, float(np.finfo(np.float32).max))
FP16 = FloatType("fp16", np.float16, TensorProto.FLOAT16, 65504.0)
BF16 = FloatType("bf16", ml_dtypes.bfloat16, TensorProto.BFLOAT16, float(ml_dtypes.finfo(ml_dtypes.bfloat16).max))


def stored_matrix(b: GraphBuilder, weight: LinearWeight, kind: FloatType) -> str:
    """The [in, out] matrix of a layer as a value of type `kind`.

    A tied head finds the embedding table there already. Where that is of the same type, it is turned round instead of stored twice.
    """
    found = b.initializers.get(weight.initializer)
    if found is None:
        return b.weight(weight.initializer, kind.narrowed(weight.matrix, weight.initializer))
    if found.data_type == kind.onnx and tuple(found.dims) == weight.matrix.shape[::-1]:
        return b.op("Transpose", [weight.initializer], f"{weight.node}.weight", perm=[1, 0])
    return b.weight(f"{weight.initializer}.{kind.name}", kind.narrowed(weight.matrix, weight.initializer))


def stored_stack(b: GraphBuilder, weight: StackedWeight, kind: FloatType) -> str:
    """The [E, in, out] matrices of a layer of experts as a value of type `kind`."""
    parts = (kind.narrowed(matrix, weight.initializer) for matrix in weight.matrices())
    return b.stacked_weight(weight.initializer, parts, weight.shape, kind.onnx)
