"""Activation functions of the encoders, for torch and for the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch.nn.functional as F
from torch import Tensor

from ...graph.activation import gelu, silu

if TYPE_CHECKING:
    from ...graph.builder import GraphBuilder

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]


def activate(x: Tensor, kind: Activation) -> Tensor:
    """The function on a tensor of any shape."""
    if kind == "relu":
        return F.relu(x)
    if kind == "silu":
        return F.silu(x)
    return F.gelu(x, approximate="tanh" if kind == "gelu_tanh" else "none")


def build_activation(b: GraphBuilder, x: str, name: str, kind: Activation) -> str:
    """The function on a value of the graph."""
    if kind == "relu":
        return b.op("Relu", [x], name)
    if kind == "silu":
        return silu(b, x, name)
    return gelu(b, x, name, tanh=kind == "gelu_tanh")
