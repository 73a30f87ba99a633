"""A checkpoint as the torch reference model."""

from __future__ import annotations

import torch
from torch import nn

from .checkpoint import Checkpoint
from .families import family_of
from .weights import WeightReader, check_tensors


def load_module(checkpoint: Checkpoint) -> nn.Module:
    """The float32 torch model of a checkpoint, in evaluation mode. Raises CheckpointError as `Checkpoint.read` does."""
    family = family_of(checkpoint)
    backbone = family.backbone(checkpoint)
    check_tensors(checkpoint, family, backbone)
    reader = WeightReader(checkpoint, family, backbone)
    with torch.device("meta"):  # no memory, and no random start, for weights that are replaced at once
        module = backbone.module()
    tied: dict[int, str] = {}
    for name, parameter in list(module.named_parameters(remove_duplicate=False)):
        first = tied.setdefault(id(parameter), name)
        owner, _, attribute = name.rpartition(".")
        value = module.get_parameter(first) if first != name else nn.Parameter(torch.from_numpy(reader.read(name)[1]), requires_grad=False)
        setattr(module.get_submodule(owner), attribute, value)
    return module.eval()
