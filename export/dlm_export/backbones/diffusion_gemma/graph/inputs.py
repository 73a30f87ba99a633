"""What a step of DiffusionGemma asks for beyond the inputs of every step."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import TensorProto

from ....graph.builder import GraphBuilder


@dataclass(frozen=True)
class Roles:
    """Values of the graph, bool [B, 1, 1]: whether a row is encoded, and whether a decoded one has a previous step to look back on."""

    encode: str
    self_conditioned: str

    def choose(self, b: GraphBuilder, encoder: str, decoder: str, name: str) -> str:
        """The encoder's or the decoder's value, row by row."""
        return b.op("Where", [self.encode, encoder, decoder], name)


def declare_inputs(b: GraphBuilder, vocab_size: int) -> Roles:
    """Declare the inputs.

    `encode` bool [B]: True runs a row's tokens through the encoder, with `block_ids` counting up; False takes them for a canvas, with
    `block_ids` all alike. `self_conditioning` float32 [B, S, V]: the logits of the previous step on this canvas, divided by its
    temperature, with S = L, or S = 1 where no row has any. `self_conditioned` bool [B]: False ignores a row's, as on a first step.
    """
    b.input("encode", TensorProto.BOOL, ["B"])
    b.input("self_conditioning", TensorProto.FLOAT, ["B", "S", vocab_size])
    b.input("self_conditioned", TensorProto.BOOL, ["B"])
    return Roles(b.unsqueeze("encode", [1, 2], "encode.column"), b.unsqueeze("self_conditioned", [1, 2], "self_conditioned.column"))
