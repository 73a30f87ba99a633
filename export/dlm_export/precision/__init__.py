"""How linear layers are written into the graph: plainly, or with 8-bit weights and activations."""

from .float32 import Float32Linear
from .int8 import Int8Linear
from .linear import LinearWriter

WRITERS: dict[str, type[LinearWriter]] = {"fp32": Float32Linear, "int8": Int8Linear}

__all__ = ["WRITERS", "Float32Linear", "Int8Linear", "LinearWriter"]
