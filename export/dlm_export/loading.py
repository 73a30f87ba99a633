"""A checkpoint as the torch reference model."""

from __future__ import annotations

import torch

from .checkpoint import Checkpoint
from .denoiser import Denoiser
from .families import family_of


def load_denoiser(checkpoint: Checkpoint) -> Denoiser:
    """The float32 torch model of a checkpoint, in evaluation mode. Raises CheckpointError as `Checkpoint.read` does."""
    family = family_of(checkpoint)
    config = family.denoiser_config(checkpoint)
    denoiser = Denoiser(config)
    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():  # a tied head is listed once, as the embedding
            parameter.copy_(torch.from_numpy(checkpoint.read(family.checkpoint_key(name), tuple(parameter.shape))))
    return denoiser.eval()
