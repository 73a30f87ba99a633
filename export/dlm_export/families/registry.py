"""The supported families. A new one is a module beside this file and a line in `ALL`; docs/adding-a-family.md says how."""

from __future__ import annotations

from ..checkpoint import Checkpoint
from ..errors import UnknownFamily
from . import a2d, bert, diffusion_gemma, dream, fast_dllm_v2, llada, llada2, llada_moe, mdlm, modernbert, nemotron_labs_diffusion, sdar
from .family import Family

ALL: tuple[Family, ...] = (
    nemotron_labs_diffusion.FAMILY,
    llada.FAMILY,
    llada_moe.FAMILY,
    llada2.FAMILY,
    dream.FAMILY,
    sdar.DENSE,
    sdar.MOE,
    fast_dllm_v2.FAMILY,
    a2d.QWEN3,
    a2d.QWEN2,
    a2d.LLAMA,
    mdlm.MDLM,
    mdlm.BD3LM,
    bert.FAMILY,
    modernbert.FAMILY,
    diffusion_gemma.FAMILY,
)
FAMILIES: dict[str, Family] = {family.facts.architecture: family for family in ALL}


def family_of(checkpoint: Checkpoint) -> Family:
    """The family of a checkpoint, by `architectures[0]` alone. Raises UnknownFamily listing the known ones."""
    family = FAMILIES.get(checkpoint.architecture)
    if family is None:
        raise UnknownFamily(checkpoint.architecture, sorted(FAMILIES))
    return family
