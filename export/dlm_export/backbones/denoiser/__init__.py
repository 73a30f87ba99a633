"""The decoder of the dense and mixture-of-experts families under a free attention mask."""

from .backbone import DenoiserBackbone
from .config import DenoiserConfig, Experts, inverse_frequencies
from .module import Attention, Denoiser, Layer, RMSNorm, grouped_attention, rotate
from .rope import LinearScaling, Llama3Scaling, RopeScaling, YarnScaling

__all__ = [
    "Attention",
    "Denoiser",
    "DenoiserBackbone",
    "DenoiserConfig",
    "Experts",
    "Layer",
    "LinearScaling",
    "Llama3Scaling",
    "RMSNorm",
    "RopeScaling",
    "YarnScaling",
    "grouped_attention",
    "inverse_frequencies",
    "rotate",
]
