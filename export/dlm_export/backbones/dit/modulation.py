"""adaLN of timestep 0, folded into the weights around it when the graph is written.

Without time conditioning the timestep network has one input, so what it adds to a layer is a constant: `1 + scale` multiplies the norm's
weight, `shift` becomes the norm's bias, and a gate multiplies the outputs of the matrix before it. The graph is left with a plain pre-norm
transformer. All of it is computed in float64 and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...graph.context import GraphContext
from ...graph.norm import build_layer_norm
from .config import NORM_EPS, TIMESTEP_SIZE, DitConfig

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Modulation:
    """What adaLN does to one branch, each [D]: `norm * (1 + scale) + shift` goes in, `gate * output` comes out."""

    shift: Doubles
    scale: Doubles
    gate: Doubles

    def norm(self, g: GraphContext, node: str, x: str) -> str:
        """The norm `node` of `x` [B, n, D], scaled and shifted."""
        weight = g.values(f"{node}.weight") * (1 + self.scale)
        scale = g.b.weight(f"{node}.modulated_weight", weight.astype(np.float32))
        shift = g.b.weight(f"{node}.shift", self.shift.astype(np.float32))
        return g.b.op("LayerNormalization", [x, scale, shift], node, axis=-1, epsilon=NORM_EPS)

    def output(self, g: GraphContext, node: str, x: str, *, bias: bool) -> str:
        """The linear layer `node` of `x` [B, L, in], gated."""
        matrix = g.values(f"{node}.weight").T * self.gate
        product = g.matrix(node, matrix.astype(np.float32), x)
        if not bias:
            return product
        offset = g.b.weight(f"{node}.gated_bias", (g.values(f"{node}.bias") * self.gate).astype(np.float32))
        return g.b.op("Add", [product, offset], f"{node}.with_bias")


class NoModulation:
    """What is left of a branch without adaLN."""

    def norm(self, g: GraphContext, node: str, x: str) -> str:
        """See `Modulation.norm`."""
        return build_layer_norm(g, node, x, NORM_EPS, bias=False)

    def output(self, g: GraphContext, node: str, x: str, *, bias: bool) -> str:
        """See `Modulation.output`."""
        return g.linear(node, x, bias=bias)


Branch = Modulation | NoModulation


@dataclass(frozen=True)
class Modulations:
    """Reads the adaLN layers of a checkpoint."""

    g: GraphContext
    config: DitConfig

    @cached_property
    def condition(self) -> Doubles:
        """The conditioning vector [cond] of timestep 0, whose embedding has cosines of 1 and sines of 0."""
        half = TIMESTEP_SIZE // 2
        inner = silu(affine(self.g, "sigma_map.mlp.0", np.concatenate((np.ones(half), np.zeros(half)))))
        return silu(affine(self.g, "sigma_map.mlp.2", inner))

    def block(self, layer: int) -> tuple[Branch, Branch]:
        """Attention and feed-forward of a layer."""
        if not self.config.adaln:
            return NoModulation(), NoModulation()
        parts = np.split(affine(self.g, f"blocks.{layer}.adaLN_modulation", self.condition), 6)
        return Modulation(*parts[:3]), Modulation(*parts[3:])

    def final(self) -> Branch:
        """The output layer, whose head is not gated."""
        if not self.config.adaln:
            return NoModulation()
        shift, scale = np.split(affine(self.g, "output_layer.adaLN_modulation", self.condition), 2)
        return Modulation(shift, scale, np.ones_like(scale))


def affine(g: GraphContext, node: str, x: Doubles) -> Doubles:
    """A linear layer of the checkpoint on one vector."""
    return g.values(f"{node}.weight").astype(np.float64) @ x + g.values(f"{node}.bias")


def silu(x: Doubles) -> Doubles:
    """x * sigmoid(x), in a form that cannot overflow."""
    return x * 0.5 * (1 + np.tanh(0.5 * x))
