"""What a network has to say about itself to be exported and verified."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

from torch import Tensor, nn

if TYPE_CHECKING:
    from ..graph.context import GraphContext
    from ..graph.step_values import StepValues

KeyValue = tuple[Tensor, Tensor]  # of one layer, each [B, Hkv, P, dh]; keys are rotated


class Sizes(Protocol):
    """What every network's config says: V, D, how many layers keep keys and values, and query heads of a layer."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def heads(self) -> int: ...


Config = TypeVar("Config", bound=Sizes)


@dataclass(frozen=True)
class Backbone(ABC, Generic[Config]):
    """One network at one size: frozen, made by a family from config.json.

    The graph's inputs and outputs are those of docs/architecture.md. Tensor names are the backbone's own; a family says where each of
    them lies in its checkpoints.

    `embedding_name` is the table of token embeddings [V, D]. `has_roles` says that the torch form takes `encode`, and the graph the inputs
    of graph/inputs.py in diffusion_gemma: tokens are then committed by an encoder and denoised by a decoder.
    """

    config: Config
    embedding_name: ClassVar[str]
    has_roles: ClassVar[bool] = False

    @property
    def vocab_size(self) -> int:
        """V: rows of the head."""
        return self.config.vocab_size

    @property
    def hidden_size(self) -> int:
        """D."""
        return self.config.hidden_size

    @property
    def layers(self) -> int:
        """How many layers keep keys and values."""
        return self.config.layers

    @property
    def heads(self) -> int:
        """Query heads of a layer."""
        return self.config.heads

    @abstractmethod
    def cache_shape(self, layer: int) -> tuple[int, int]:
        """Key heads and their width, (Hkv, dh), of `past.{layer}.key` and `.value`."""

    @abstractmethod
    def tensor_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every tensor with its shape, one by one: a config may claim more layers than a list could hold. No tied head."""

    @abstractmethod
    def module(self) -> nn.Module:
        """The plain torch form, with parameters named as in `tensor_shapes`.

        `forward(input_ids [B, L], position_ids [B, L], mask bool [B, 1, L, P + L], past)` returns logits [B, L, V] and, per layer, the
        keys and values [B, Hkv, L, dh] of these tokens. It holds no buffers, so it can be made without memory and filled afterwards.
        """

    @abstractmethod
    def build_hidden(self, g: GraphContext, step: StepValues) -> str:
        """Write everything up to the head: a float32 value [B, L, D]."""

    @abstractmethod
    def build_logits(self, g: GraphContext, x: str) -> str:
        """Write the final norm and the head for the window's part of it, `x` [B, W, D]: the value `logits`, float32 [B, W, V]."""
