"""Activation functions of the encoders in torch; graph/activation.py has them for the graph."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ...graph.activation import Activation


def activate(x: Tensor, kind: Activation) -> Tensor:
    """The function on a tensor of any shape."""
    if kind == "relu":
        return F.relu(x)
    if kind == "silu":
        return F.silu(x)
    return F.gelu(x, approximate="tanh" if kind == "gelu_tanh" else "none")
