"""What a family is: a key-name map, a few numbers, a mask kind and the modes it can be decoded in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from dlm_runtime.bundle import Mode

from ..checkpoint import Checkpoint
from ..denoiser import DenoiserConfig


@dataclass(frozen=True)
class SpecialTokens:
    """Token ids with a meaning, and how many positions are denoised together."""

    mask_token_id: int
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    pad_token_id: int
    block_length: int

    def __post_init__(self) -> None:
        if not self.eos_token_ids:
            raise ValueError(f"eos_token_ids={self.eos_token_ids} must name at least one id")
        if self.mask_token_id in self.eos_token_ids:
            raise ValueError(f"mask_token_id={self.mask_token_id} is also an end-of-text id")
        if self.block_length < 1:
            raise ValueError(f"block_length={self.block_length} must be at least 1")


@dataclass(frozen=True)
class FamilyFacts:
    """The constants of a family that no config.json carries."""

    name: str
    architecture: str
    modes: tuple[Mode, ...]
    default_mode: Mode
    default_threshold: float
    logit_shift: int = 0
    context_mask: Literal["causal"] = "causal"


class Family(Protocol):
    """One supported architecture: a stateless object, listed in `registry.py`."""

    @property
    def facts(self) -> FamilyFacts:
        """The family's constants."""
        ...

    def denoiser_config(self, checkpoint: Checkpoint) -> DenoiserConfig:
        """Sizes from config.json; CheckpointError for anything this backbone cannot compute exactly."""
        ...

    def special_tokens(self, checkpoint: Checkpoint) -> SpecialTokens:
        """Special ids and block length, wherever this family keeps them."""
        ...

    def max_context(self, checkpoint: Checkpoint) -> int:
        """Positions the model was made for."""
        ...

    def checkpoint_key(self, name: str) -> str:
        """The checkpoint's name of a tensor of `dlm_export.denoiser.Denoiser`."""
        ...
