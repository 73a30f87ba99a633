"""Model families by `architectures[0]`: what differs between checkpoints of one and the same backbone."""

from .family import Family, FamilyFacts, SpecialOverrides, SpecialTokens, TensorSource
from .registry import FAMILIES, family_of

__all__ = ["FAMILIES", "Family", "FamilyFacts", "SpecialOverrides", "SpecialTokens", "TensorSource", "family_of"]
