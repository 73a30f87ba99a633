"""Activation functions in operators that every target has."""

from __future__ import annotations

import math
from typing import Literal

from .builder import GraphBuilder

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]


def build_activation(b: GraphBuilder, x: str, name: str, kind: Activation) -> str:
    """The function of a kind."""
    if kind == "relu":
        return b.op("Relu", [x], name)
    if kind == "silu":
        return silu(b, x, name)
    return gelu(b, x, name, tanh=kind == "gelu_tanh")


def silu(b: GraphBuilder, x: str, name: str) -> str:
    """x * sigmoid(x)."""
    return b.op("Mul", [x, b.op("Sigmoid", [x], f"{name}.sigmoid")], name)


def gelu(b: GraphBuilder, x: str, name: str, *, tanh: bool) -> str:
    """Gaussian error linear unit (Hendrycks & Gimpel 2016), exact or in its tanh approximation."""
    if tanh:
        cube = b.op("Mul", [b.op("Mul", [x, x], f"{name}.square"), x], f"{name}.cube")
        inner = b.op("Add", [x, b.op("Mul", [cube, b.constant(0.044715)], f"{name}.cube_share")], f"{name}.sum")
        bent = b.op("Tanh", [b.op("Mul", [inner, b.constant(math.sqrt(2 / math.pi))], f"{name}.inner")], f"{name}.tanh")
    else:
        bent = b.op("Erf", [b.op("Div", [x, b.constant(math.sqrt(2.0))], f"{name}.scaled")], f"{name}.erf")
    upper = b.op("Add", [bent, b.constant(1.0)], f"{name}.plus_one")
    return b.op("Mul", [b.op("Mul", [x, upper], f"{name}.doubled"), b.constant(0.5)], name)
