"""Gaussian error linear units in five or nine operators -> one `Gelu` (operator set 20)."""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from .rewrite import Rewrite, node_name, scalar_of

RELATIVE_TOLERANCE = 1e-6  # of a constant stored as float32


class FuseErfGelu(RewriteRuleClassBase):
    """x / 2 * (1 + erf(x / sqrt(2))), as graph/activation.py writes it."""

    def __init__(self) -> None:
        super().__init__("gelu")

    def pattern(self, op: Any, x: ir.Value, root_two: ir.Value, one: ir.Value, half: ir.Value) -> Any:
        """See `gelu` with `tanh=False`."""
        return op.Mul(op.Mul(x, op.Add(op.Erf(op.Div(x, root_two)), one)), half, _outputs=["bent"])

    def check(self, context: Any, root_two: ir.Value, one: ir.Value, half: ir.Value, **_: Any) -> MatchResult:
        """Which number is another than the operator's."""
        return check_numbers((root_two, math.sqrt(2)), (one, 1), (half, 0.5))

    def rewrite(self, op: Any, x: ir.Value, bent: ir.Value, **_: Any) -> Any:
        """Exact, which is the operator's default."""
        return op.Gelu(x, _name=node_name(bent))


class FuseTanhGelu(RewriteRuleClassBase):
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), as graph/activation.py writes it."""

    def __init__(self) -> None:
        super().__init__("gelu")

    def pattern(self, op: Any, x: ir.Value, share: ir.Value, slope: ir.Value, one: ir.Value, half: ir.Value) -> Any:
        """See `gelu` with `tanh=True`."""
        cube = op.Mul(op.Mul(x, x), x)
        tanh = op.Tanh(op.Mul(op.Add(x, op.Mul(cube, share)), slope))
        return op.Mul(op.Mul(x, op.Add(tanh, one)), half, _outputs=["bent"])

    def check(self, context: Any, share: ir.Value, slope: ir.Value, one: ir.Value, half: ir.Value, **_: Any) -> MatchResult:
        """Which number is another than the operator's."""
        return check_numbers((share, 0.044715), (slope, math.sqrt(2 / math.pi)), (one, 1), (half, 0.5))

    def rewrite(self, op: Any, x: ir.Value, bent: ir.Value, **_: Any) -> Any:
        """The operator has the approximation as an attribute."""
        return op.Gelu(x, approximate="tanh", _name=node_name(bent))


def check_numbers(*pairs: tuple[ir.Value, float]) -> MatchResult:
    """Fails for the first value that is not a constant of the number that the formula has there."""
    result = MatchResult()
    for value, expected in pairs:
        found = scalar_of(value)
        if found is None or not math.isclose(found, expected, rel_tol=RELATIVE_TOLERANCE):
            there = "a value that is no constant" if found is None else f"{found:.6g}"
            return result.fail(f"the formula has {expected:.6g} where the graph has {there}", value)
    return result


ERF_GELU = Rewrite("gelu", opset=20, anchor="Erf", rules=(FuseErfGelu.rule(),))
TANH_GELU = Rewrite("gelu_tanh", opset=20, anchor="Tanh", rules=(FuseTanhGelu.rule(),))
