"""How linear layers, the embedding and the cache are written into the graph: in 32 bits, or fewer."""

from .arithmetic import Arithmetic
from .choose import PrecisionChoice
from .linear import LinearWriter
from .overflow import located_overflow

__all__ = ["Arithmetic", "LinearWriter", "PrecisionChoice", "located_overflow"]
