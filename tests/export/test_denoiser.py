"""The torch reference against recorded logits: everything else is compared with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from dlm_export.checkpoint import Checkpoint
from dlm_export.loading import load_denoiser


@pytest.mark.parametrize("case", ["causal", "bidirectional", "causal_prefix_bidirectional_block", "batch", "long_positions"])
def test_recorded_logits(golden_checkpoint: Path, case: str) -> None:
    tolerance = json.loads((golden_checkpoint / "meta.json").read_text(encoding="utf-8"))["tolerance"]
    allowed = tolerance["logits_abs_long" if case == "long_positions" else "logits_abs"]
    denoiser = load_denoiser(Checkpoint.open(golden_checkpoint))
    with np.load(golden_checkpoint / "logits.npz") as recorded, torch.no_grad():
        ids, positions, bias = (torch.from_numpy(recorded[f"{case}__{name}"]) for name in ("input_ids", "position_ids", "attention_bias"))
        logits, _ = denoiser(ids, positions, bias)
        assert np.abs(logits.numpy() - recorded[f"{case}__logits"])[recorded[f"{case}__compare"]].max() <= allowed
