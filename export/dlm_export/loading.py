"""A checkpoint as the torch reference model."""

from __future__ import annotations

import torch

from .checkpoint import Checkpoint
from .denoiser import Denoiser, inverse_frequencies
from .families import family_of
from .weights import check_tensors


def load_denoiser(checkpoint: Checkpoint) -> Denoiser:
    """The float32 torch model of a checkpoint, in evaluation mode. Raises CheckpointError as `Checkpoint.read` does."""
    family = family_of(checkpoint)
    config = family.denoiser_config(checkpoint)
    check_tensors(checkpoint, family, config)
    with torch.device("meta"):  # no memory, and no random start, for weights that are replaced at once
        denoiser = Denoiser(config)
    weights = {
        name: torch.from_numpy(checkpoint.read(family.checkpoint_key(name), tuple(parameter.shape)))
        for name, parameter in denoiser.named_parameters()  # a tied head is listed once, as the embedding
    }
    denoiser.load_state_dict(weights, strict=False, assign=True)
    if config.tied:
        denoiser.head.weight = denoiser.embed_tokens.weight
    denoiser.inv_freq = inverse_frequencies(config)
    return denoiser.eval()
