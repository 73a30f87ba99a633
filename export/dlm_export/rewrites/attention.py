"""Grouped attention in seven operators -> one `Attention` (operator set 23).

graph/attention.py stacks queries that share a key head along the length. The operator knows groups itself, so the stacks come apart
again, and with them the mask's: each head sees the one mask [B, 1, L, L + P].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase
from onnxscript.rewriter.pattern import OrValue

from .rewrite import Rewrite, integers_of, node_name, rank_of, size_of

HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
KEYS_TRANSPOSED = (0, 1, 3, 2)
HEADS_AXIS, LENGTH_AXIS = -3, 2


@dataclass(frozen=True)
class AttentionKernels:
    """What a target has kernels for in half precision: head sizes dh from `smallest_head` to `largest_head`, and `fewest_heads` or more."""

    smallest_head: int
    largest_head: int
    fewest_heads: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.smallest_head <= self.largest_head:
            raise ValueError(f"head sizes from {self.smallest_head} to {self.largest_head} are none")
        if self.fewest_heads < 1:
            raise ValueError(f"fewest_heads={self.fewest_heads} must be at least 1")


class FuseAttention(RewriteRuleClassBase):
    """softmax(q k^T + bias) v, softmax in float32 whatever the type of the products. Queries are scaled already."""

    def __init__(self, kernels: AttentionKernels) -> None:
        super().__init__("attention")
        self._kernels = kernels

    def pattern(
        self, op: Any, heads: ir.Value, stack: ir.Value, keys: ir.Value, values: ir.Value, bias: ir.Value, unstack: ir.Value
    ) -> Any:
        """See `build_attention`; the Casts are there where products are narrower than float32."""
        stacked = op.Reshape(heads, stack)
        q = OrValue([op.Cast(stacked), stacked])
        product = op.MatMul(q, op.Transpose(keys, perm=list(KEYS_TRANSPOSED)))
        masked = op.Add(OrValue([op.Cast(product, to=ir.DataType.FLOAT.value), product]), bias)
        probabilities = op.Softmax(masked, axis=-1)
        mixed = op.MatMul(OrValue([op.Cast(probabilities), probabilities]), values, _outputs=["mixed"])
        return op.Reshape(OrValue([op.Cast(mixed), mixed]), unstack, _outputs=["per_head"])

    def check(
        self,
        context: Any,
        heads: ir.Value,
        stack: ir.Value,
        keys: ir.Value,
        values: ir.Value,
        bias: ir.Value,
        unstack: ir.Value,
        mixed: ir.Value,
        **_: Any,
    ) -> MatchResult:
        """Why a target could not run it as one operator, or would get other numbers."""
        result = MatchResult()
        if any(value.dtype is None or value.dtype != mixed.dtype for value in (keys, values)):
            return result.fail("keys and values are not known to be of the products' element type", keys)
        if mixed.dtype not in HALVES:
            return result.fail("products are in float32: there are kernels for float16 and bfloat16 alone", mixed)
        if any(rank_of(value) != 4 for value in (heads, keys, values, bias)):
            return result.fail("queries, keys, values and mask are not all known to have four dimensions", heads)
        count, groups, size = size_of(heads, HEADS_AXIS), size_of(keys, HEADS_AXIS), size_of(heads, -1)
        if count is None or groups is None or size is None:
            return result.fail("numbers and sizes of the heads are not known", heads)
        if integers_of(stack) != [0, groups, -1, size] or integers_of(unstack) != [0, count, -1, size]:
            return result.fail("heads are not stacked by their key heads", heads)
        if count < self._kernels.fewest_heads:
            return result.fail(f"{count} query head: there are kernels for {self._kernels.fewest_heads} and more", heads)
        if not self._kernels.smallest_head <= size <= self._kernels.largest_head:
            sizes = f"{self._kernels.smallest_head} to {self._kernels.largest_head}"
            return result.fail(f"heads of size {size}: there are kernels for {sizes}", heads)
        if mask_of_one_head(bias, count // groups) is None:
            return result.fail("the mask is not one and the same for all queries of a key head", bias)
        return result

    def rewrite(
        self,
        op: Any,
        heads: ir.Value,
        keys: ir.Value,
        values: ir.Value,
        bias: ir.Value,
        mixed: ir.Value,
        per_head: ir.Value,
        **_: Any,
    ) -> Any:
        """Without `softmax_precision`: TensorRT refuses a model that has it."""
        dtype = mixed.dtype or ir.DataType.UNDEFINED
        group = (size_of(heads, HEADS_AXIS) or 0) // (size_of(keys, HEADS_AXIS) or 1)
        mask = in_type(op, mask_of_one_head(bias, group) or bias, dtype)
        q = in_type(op, heads, dtype)
        if per_head.dtype == dtype:
            return op.Attention(q, keys, values, mask, scale=1.0, _name=node_name(per_head))
        attended = op.Attention(q, keys, values, mask, scale=1.0, _outputs=[mixed.name], _name=node_name(mixed))
        return op.Cast(attended, to=per_head.dtype.value if per_head.dtype else None, _name=node_name(per_head))


def mask_of_one_head(bias: ir.Value, group: int) -> ir.Value | None:
    """What the mask of a stack of `group` heads repeats, None if it is no such repetition."""
    if group == 1:
        return bias
    node = bias.producer()
    if node is None or node.op_type != "Concat" or node.attributes.get_int("axis", 0) != LENGTH_AXIS:
        return None
    return node.inputs[0] if len(node.inputs) == group and len(set(node.inputs)) == 1 else None


def in_type(op: Any, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """A value in the type of the products, which is the operator's; cast once for all layers that share it."""
    if value.dtype == dtype:
        return value
    name = f"{value.name}.{dtype.name.lower()}"
    for user, _ in value.uses():
        if user.name == name:
            return user.outputs[0]
    return op.Cast(value, to=dtype.value, _outputs=[name], _name=name)


def attention(kernels: AttentionKernels) -> Rewrite:
    """The rewrite for a target with these kernels."""
    return Rewrite("attention", opset=23, anchor="Add", rules=(FuseAttention.rule(kernels),))
