"""ModernBERT: a pre-norm encoder with rotary positions, in which most layers see their neighbourhood alone."""

from .backbone import ModernBertBackbone
from .config import ModernBertConfig

__all__ = ["ModernBertBackbone", "ModernBertConfig"]
