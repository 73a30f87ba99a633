"""A transformer over tokens with rotary positions and adaLN (MDLM, BD3-LM)."""

from .backbone import DitBackbone
from .config import DitConfig
from .module import DitModule

__all__ = ["DitBackbone", "DitConfig", "DitModule"]
