"""Rotary frequencies and their scalings, as Hugging Face's `rope_parameters` define them.

The order of operations is Hugging Face's too: at position 100,000 one rounding more or less turns an angle by a hundredth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LinearScaling:
    """Positions divided by `factor` (Chen et al. 2023, arXiv:2306.15595)."""

    factor: float
    attention_factor: float = 1.0

    def inverse_frequencies(self, theta: float, dim: int) -> Tensor:
        """Float32 [dim / 2]."""
        return plain_inverse_frequencies(theta, dim) / self.factor


@dataclass(frozen=True)
class YarnScaling:
    """YaRN (Peng et al. 2023, arXiv:2309.00071): slow frequencies interpolated, fast ones kept, a ramp between them."""

    factor: float
    original_max_positions: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0

    def inverse_frequencies(self, theta: float, dim: int) -> Tensor:
        """Float32 [dim / 2]."""
        wavelengths = plain_wavelengths(theta, dim)
        kept = 1 - self._ramp(theta, dim)
        return 1.0 / (self.factor * wavelengths) * (1 - kept) + 1.0 / wavelengths * kept

    def _ramp(self, theta: float, dim: int) -> Tensor:
        """How far each frequency is interpolated, 0 (not at all) to 1.

        The original context bounds the ramp; a context of a few tokens, or one longer than every wavelength, leaves an upper bound below
        the lower one. The published code then divides by the negative difference, and so does this.
        """

        def dimension_of(rotations: float) -> float:
            return dim * math.log(self.original_max_positions / (rotations * 2 * math.pi)) / (2 * math.log(theta))

        low = max(math.floor(dimension_of(self.beta_fast)), 0)
        high = min(math.ceil(dimension_of(self.beta_slow)), dim - 1)
        span = high - low if high != low else 0.001
        return ((torch.arange(dim // 2, dtype=torch.float32) - low) / span).clamp(0, 1)


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1's scaling: wavelengths beyond the original context are stretched, those well inside it kept."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int
    attention_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(f"high_freq_factor={self.high_freq_factor} must be above low_freq_factor={self.low_freq_factor}")

    def inverse_frequencies(self, theta: float, dim: int) -> Tensor:
        """Float32 [dim / 2]."""
        original = plain_inverse_frequencies(theta, dim)
        rotations = self.original_max_positions / (2 * math.pi / original)  # of each frequency within the original context
        smooth = (rotations - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        blended = (1 - smooth) * original / self.factor + smooth * original
        stretched = torch.where(rotations < self.low_freq_factor, original / self.factor, blended)
        return torch.where(rotations > self.high_freq_factor, original, stretched)


RopeScaling = LinearScaling | YarnScaling | Llama3Scaling


def plain_wavelengths(theta: float, dim: int) -> Tensor:
    """`theta ** (2 i / dim)`, float32 [dim / 2]."""
    return theta ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)


def plain_inverse_frequencies(theta: float, dim: int) -> Tensor:
    """Rotary frequencies without scaling (Su et al. 2021, arXiv:2104.09864), float32 [dim / 2]."""
    return 1.0 / plain_wavelengths(theta, dim)
