"""The supported families. A new one is a module beside this file and a line in `FAMILIES`."""

from __future__ import annotations

from ..checkpoint import Checkpoint
from ..errors import UnknownFamily
from .family import Family
from .nemotron_labs_diffusion import NemotronLabsDiffusion

FAMILIES: dict[str, Family] = {family.facts.architecture: family for family in (NemotronLabsDiffusion(),)}


def family_of(checkpoint: Checkpoint) -> Family:
    """The family of a checkpoint, by `architectures[0]` alone. Raises UnknownFamily listing the known ones."""
    family = FAMILIES.get(checkpoint.architecture)
    if family is None:
        raise UnknownFamily(checkpoint.architecture, sorted(FAMILIES))
    return family
