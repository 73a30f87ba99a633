"""What a rewrite is, and questions that several of them ask about values."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
from onnxscript.rewriter import RewriteRule


@dataclass(frozen=True)
class Rewrite:
    """One or more rules that bring about the same operator.

    `opset` is the first operator set that has it. A place in the graph is a candidate, and is reported where no rule applies, once a rule
    has recognised it back to the operator `anchor`.
    """

    name: str
    opset: int
    anchor: str
    rules: tuple[RewriteRule, ...]

    def __post_init__(self) -> None:
        if self.opset < 1:
            raise ValueError(f"{self.name}: opset={self.opset} must be at least 1")
        if not self.rules:
            raise ValueError(f"{self.name}: rules must not be empty")


def scalar_of(value: ir.Value | None) -> float | None:
    """The number that a constant of no dimensions holds, None for anything else."""
    if value is None or value.const_value is None or value.const_value.shape.rank():
        return None
    return float(value.const_value.numpy())


def integers_of(value: ir.Value | None) -> list[int] | None:
    """The integers of a constant vector, None for anything else."""
    if value is None or value.const_value is None or value.const_value.shape.rank() != 1:
        return None
    return [int(item) for item in value.const_value.numpy()]


def size_of(value: ir.Value, axis: int) -> int | None:
    """A dimension of a value where it is known as a number. `axis` counts from the last one, -1."""
    if value.shape is None or value.shape.rank() < -axis:
        return None
    size = value.shape[axis]
    return size if isinstance(size, int) else None


def rank_of(value: ir.Value) -> int | None:
    """How many dimensions a value has, where that is known."""
    return None if value.shape is None else value.shape.rank()


def node_name(value: ir.Value) -> str | None:
    """The name of the node that computes a value, for the node that takes its place."""
    producer = value.producer()
    return None if producer is None else producer.name
