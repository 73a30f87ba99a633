"""Root-mean-square norm in six operators -> one `RMSNormalization` (operator set 23)."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from .rewrite import Rewrite, integers_of, node_name, rank_of, scalar_of


class FuseRmsNormalization(RewriteRuleClassBase):
    """x / sqrt(mean(x^2) + epsilon) * weight over the last axis, as graph/norm.py writes it."""

    def __init__(self) -> None:
        super().__init__("rms_normalization")

    def pattern(self, op: Any, x: ir.Value, two: ir.Value, axes: ir.Value, epsilon: ir.Value, weight: ir.Value) -> Any:
        """See `rms_norm`."""
        mean = op.ReduceMean(op.Pow(x, two), axes, keepdims=1)
        normed = op.Div(x, op.Sqrt(op.Add(mean, epsilon)))
        return op.Mul(normed, weight, _outputs=["scaled"])

    def check(
        self, context: Any, x: ir.Value, two: ir.Value, axes: ir.Value, epsilon: ir.Value, weight: ir.Value, scaled: ir.Value
    ) -> MatchResult:
        """Why it is another norm than the operator's."""
        result = MatchResult()
        if scalar_of(two) != 2:
            return result.fail("what is averaged is not the square", two)
        rank, over = rank_of(x), integers_of(axes)
        if over != [-1] and (rank is None or over != [rank - 1]):
            return result.fail("the mean is not over the last axis", axes)
        if scalar_of(epsilon) is None:
            return result.fail("epsilon is not a constant", epsilon)
        if x.dtype is None or weight.dtype != x.dtype:
            return result.fail("weight and input are not known to be of one element type", weight)
        if not broadcasts_to(weight, x):
            return result.fail("the weight is not known to broadcast to the input", weight)
        return result

    def rewrite(self, op: Any, x: ir.Value, weight: ir.Value, epsilon: ir.Value, scaled: ir.Value, **_: Any) -> Any:
        """Computed in float32 whatever the type, which is the operator's default."""
        return op.RMSNormalization(x, weight, axis=-1, epsilon=scalar_of(epsilon), _name=node_name(scaled))


def broadcasts_to(weight: ir.Value, x: ir.Value) -> bool:
    """Whether the weight can be multiplied onto `x` without making it larger."""
    if weight.shape is None or x.shape is None or weight.shape.rank() > x.shape.rank():
        return False
    matching = list(x.shape)[x.shape.rank() - weight.shape.rank() :]
    return all(own in (1, other) for own, other in zip(weight.shape, matching, strict=True))


RMS_NORMALIZATION = Rewrite("rms_normalization", opset=23, anchor="ReduceMean", rules=(FuseRmsNormalization.rule(),))
