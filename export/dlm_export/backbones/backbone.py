"""What a network has to say about itself to be exported and verified."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Protocol

from torch import Tensor, nn

if TYPE_CHECKING:
    from ..graph.context import GraphContext
    from ..graph.step_values import StepValues

KeyValue = tuple[Tensor, Tensor]  # of one layer, each [B, Hkv, P, dh]; keys are rotated


class Backbone(Protocol):
    """One network at one size: frozen, made by a family from config.json.

    The graph's inputs and outputs are those of docs/architecture.md. Tensor names are the backbone's own; a family says where each of
    them lies in its checkpoints.

    `embedding_name` is the table of token embeddings [V, D]. `has_roles` says that the torch form takes `encode`, and the graph the inputs
    of graph/inputs.py in diffusion_gemma: tokens are then committed by an encoder and denoised by a decoder.
    """

    embedding_name: ClassVar[str]
    has_roles: ClassVar[bool]

    @property
    def vocab_size(self) -> int:
        """V: rows of the head."""
        ...

    @property
    def hidden_size(self) -> int:
        """D."""
        ...

    @property
    def layers(self) -> int:
        """How many layers keep keys and values."""
        ...

    @property
    def heads(self) -> int:
        """Query heads of a layer."""
        ...

    def cache_shape(self, layer: int) -> tuple[int, int]:
        """Key heads and their width, (Hkv, dh), of `past.{layer}.key` and `.value`."""
        ...

    def tensor_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every tensor with its shape, one by one: a config may claim more layers than a list could hold. No tied head."""
        ...

    def module(self) -> nn.Module:
        """The plain torch form, with parameters named as in `tensor_shapes`.

        `forward(input_ids [B, L], position_ids [B, L], mask bool [B, 1, L, P + L], past)` returns logits [B, L, V] and, per layer, the
        keys and values [B, Hkv, L, dh] of these tokens. It holds no buffers, so it can be made without memory and filled afterwards.
        """
        ...

    def build_hidden(self, g: GraphContext, step: StepValues) -> str:
        """Write everything up to the head: a float32 value [B, L, D]."""
        ...

    def build_logits(self, g: GraphContext, x: str) -> str:
        """Write the final norm and the head for the window's part of it, `x` [B, W, D]: the value `logits`, float32 [B, W, V]."""
        ...
