"""What a family is: which architecture, a key-name map, a few numbers, a mask kind and the modes it can be decoded in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dlm_runtime.bundle import ContextMask, Mode

from ..backbones import Backbone
from ..checkpoint import Checkpoint


@dataclass(frozen=True)
class SpecialTokens:
    """Token ids with a meaning, and how many positions are denoised together.

    `mask_token_id` is None where canvases start from random tokens. `notes` are sentences for whoever exports.
    """

    mask_token_id: int | None
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    pad_token_id: int
    block_length: int
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.eos_token_ids:
            raise ValueError(f"eos_token_ids={self.eos_token_ids} must name at least one id")
        if self.mask_token_id in self.eos_token_ids:
            raise ValueError(f"mask_token_id={self.mask_token_id} is also an end-of-text id")
        if self.block_length < 1:
            raise ValueError(f"block_length={self.block_length} must be at least 1")


@dataclass(frozen=True)
class SpecialOverrides:
    """Ids that whoever exports gives instead of those in the checkpoint; None leaves the checkpoint's."""

    mask_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] | None = None
    pad_token_id: int | None = None


NO_OVERRIDES = SpecialOverrides()


@dataclass(frozen=True)
class FamilyFacts:
    """The constants of a family that no config.json carries.

    `context_masks` are the ways its checkpoints were trained to look at what is committed, the first being the usual one. `mask_names`
    and `eos_names` are spellings of those tokens in tokenizer files, `stop_names` of those that end a turn as well. `published_*` are ids
    of the published vocabulary, taken when no file of the checkpoint names one. `block_field` is where config.json keeps the block length,
    if anywhere. `trained_positions` bounds the context unless whoever exports asks for more, where training saw fewer positions than
    config.json inherited from the model that was adapted. `template_variables` are what the chat template is to be rendered with.
    """

    name: str
    architecture: str
    context_masks: tuple[ContextMask, ...]
    modes: tuple[Mode, ...] = ("diffusion",)
    default_mode: Mode = "diffusion"
    default_threshold: float = 0.9
    logit_shift: int = 0
    mask_names: tuple[str, ...] = ()
    eos_names: tuple[str, ...] = ()
    stop_names: tuple[str, ...] = ()
    published_mask_id: int | None = None
    published_eos_id: int | None = None
    block_field: str | None = None
    block_length: int = 32
    trained_positions: int | None = None
    template_variables: Mapping[str, str | bool | None] = field(default_factory=dict)


@dataclass(frozen=True)
class TensorSource:
    """Where a tensor of a backbone lies: the checkpoint's name, the shape stored there, and which part of that it is (all, if empty)."""

    key: str
    stored_shape: tuple[int, ...]
    index: tuple[int | slice, ...] = ()


class Family(Protocol):
    """One supported architecture: a stateless object, listed in `registry.py`."""

    @property
    def facts(self) -> FamilyFacts:
        """The family's constants."""
        ...

    def backbone(self, checkpoint: Checkpoint) -> Backbone:
        """The network, sized by config.json; CheckpointError for anything it cannot compute exactly."""
        ...

    def special_tokens(self, checkpoint: Checkpoint, overrides: SpecialOverrides) -> SpecialTokens:
        """Special ids and block length, wherever this family keeps them."""
        ...

    def max_context(self, checkpoint: Checkpoint) -> int:
        """Positions the model was made for."""
        ...

    def checkpoint_key(self, name: str) -> str:
        """The checkpoint's name for a tensor of the backbone; for one that is fused here, the name it would have."""
        ...

    def source(self, name: str, shape: tuple[int, ...], backbone: Backbone) -> TensorSource:
        """Where a tensor of the backbone lies in the checkpoint."""
        ...
