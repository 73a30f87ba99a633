"""Model families by `architectures[0]`: what differs between checkpoints of one and the same decoder backbone."""

from .family import Family, FamilyFacts, SpecialTokens
from .registry import FAMILIES, family_of

__all__ = ["FAMILIES", "Family", "FamilyFacts", "SpecialTokens", "family_of"]
