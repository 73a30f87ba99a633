"""The torch reference against recorded logits: everything else is compared with it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from dlm_export.backbones.denoiser import DenoiserConfig, YarnScaling, inverse_frequencies
from dlm_export.checkpoint import Checkpoint
from dlm_export.loading import load_module


@pytest.mark.parametrize("case", ["causal", "bidirectional", "causal_prefix_bidirectional_block", "batch", "long_positions"])
def test_recorded_logits(golden_checkpoint: Path, case: str) -> None:
    tolerance = json.loads((golden_checkpoint / "meta.json").read_text(encoding="utf-8"))["tolerance"]
    allowed = tolerance["logits_abs_long" if case == "long_positions" else "logits_abs"]
    denoiser = load_module(Checkpoint.open(golden_checkpoint))
    with np.load(golden_checkpoint / "logits.npz") as recorded, torch.no_grad():
        ids, positions, bias = (torch.from_numpy(recorded[f"{case}__{name}"]) for name in ("input_ids", "position_ids", "attention_bias"))
        logits, _ = denoiser(ids, positions, bias)
        assert np.abs(logits.numpy() - recorded[f"{case}__logits"])[recorded[f"{case}__compare"]].max() <= allowed


def published_yarn(dim: int, base: float, original: int, factor: float) -> torch.Tensor:
    """Inverse frequencies as transformers 5 computes them, written down line by line."""

    def correction_dim(rotations: float) -> float:
        return (dim * math.log(original / (rotations * 2 * math.pi))) / (2 * math.log(base))

    low, high = max(math.floor(correction_dim(32)), 0), min(math.ceil(correction_dim(1)), dim - 1)
    low_high = (low, high + 0.001 if low == high else high)
    ramp = torch.clamp((torch.arange(dim // 2, dtype=torch.float32) - low_high[0]) / (low_high[1] - low_high[0]), 0, 1)
    extrapolated = 1 - ramp
    pos_freqs = base ** (torch.arange(0, dim, 2).to(dtype=torch.float) / dim)
    return 1.0 / (factor * pos_freqs) * (1 - extrapolated) + 1.0 / pos_freqs * extrapolated


@pytest.mark.parametrize("original", [1, 2, 4, 6, 7, 8, 64, 4096, 16384, 2**24, 2**30])
@pytest.mark.parametrize(("dim", "base", "factor"), [(8, 500.0, 4.0), (64, 2000.0, 16.0), (128, 1e6, 1.0), (16, 1e4, 16.0)])
def test_yarn_frequencies_are_the_published_ones_to_the_bit(dim: int, base: float, original: int, factor: float) -> None:
    """Contexts of a few tokens too, and longer than every wavelength, where the ramp runs backwards."""
    config = DenoiserConfig(16, 8, 8, 1, 1, 1, dim, rope_theta=base, norm_eps=1e-5, rope_scaling=YarnScaling(factor, original))
    torch.testing.assert_close(inverse_frequencies(config), published_yarn(dim, base, original, factor), rtol=0, atol=0)


def test_widened_and_narrowed_again_is_the_same_model(golden_checkpoint: Path) -> None:
    denoiser = load_module(Checkpoint.open(golden_checkpoint))
    ids, positions, mask = torch.arange(9)[None], torch.arange(9)[None] + 50_000, torch.ones(1, 1, 9, 9, dtype=torch.bool)
    with torch.no_grad():
        before, _ = denoiser(ids, positions, mask)
        wide, (first, *_) = denoiser.double()(ids, positions, mask)
        after, _ = denoiser.float()(ids, positions, mask)
    assert wide.dtype == first[0].dtype == torch.float64
    torch.testing.assert_close(wide.float(), before, rtol=0, atol=1e-4)
    torch.testing.assert_close(after, before, rtol=0, atol=0)
