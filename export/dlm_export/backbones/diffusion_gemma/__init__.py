"""DiffusionGemma: a causal encoder and a bidirectional decoder over the same Gemma 4 mixture of experts."""

from .backbone import DiffusionGemmaBackbone
from .config import AttentionKind, DiffusionGemmaConfig
from .module import DiffusionGemma

__all__ = ["AttentionKind", "DiffusionGemma", "DiffusionGemmaBackbone", "DiffusionGemmaConfig"]
