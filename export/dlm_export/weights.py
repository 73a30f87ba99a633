"""Weights of the graph: read one at a time, transposed and fused on the way, under the checkpoint's own names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .checkpoint import Checkpoint
from .denoiser import DenoiserConfig
from .families import Family

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LinearWeight:
    """A linear layer's weight, ready to multiply from the right.

    `node` names the layer in the graph, `initializer` the weight as the checkpoint calls it.
    """

    node: str
    initializer: str
    matrix: Floats  # [in, out]


@dataclass
class WeightReader:
    """Reads tensors of the denoiser from a checkpoint and remembers which ones."""

    checkpoint: Checkpoint
    family: Family
    config: DenoiserConfig
    read_keys: set[str] = field(default_factory=set)

    def vector(self, name: str) -> tuple[str, Floats]:
        """A norm's weight: its name in the checkpoint and its values."""
        return self._read(f"{name}.weight", (self.config.hidden_size,))

    def embedding(self) -> tuple[str, Floats]:
        """The embedding table [V, D]."""
        return self._read("embed_tokens.weight", (self.config.vocab_size, self.config.hidden_size))

    def linear(self, node: str) -> LinearWeight:
        """One linear layer."""
        key, matrix = self._read(f"{node}.weight", linear_shape(self.config, node))
        return LinearWeight(node, key, matrix.T)

    def fused(self, node: str, parts: Sequence[str]) -> LinearWeight:
        """Several linear layers of one input as one wide layer, outputs side by side."""
        matrices = [self._read(f"{part}.weight", linear_shape(self.config, part))[1].T for part in parts]
        return LinearWeight(node, self.family.checkpoint_key(f"{node}.weight"), np.concatenate(matrices, axis=1))

    def _read(self, name: str, shape: tuple[int, ...]) -> tuple[str, Floats]:
        key = self.family.checkpoint_key(name)
        self.read_keys.add(key)
        return key, self.checkpoint.read(key, shape)


def check_tensors(checkpoint: Checkpoint, family: Family, config: DenoiserConfig) -> None:
    """Raise CheckpointError for the first tensor that is missing or of another shape, before time or memory is spent on any."""
    for name, shape in tensor_shapes(config):
        checkpoint.file_of(family.checkpoint_key(name), shape)


def tensor_shapes(config: DenoiserConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor of the denoiser with its shape, one by one: a config may claim more layers than a list could hold."""
    yield "embed_tokens.weight", (config.vocab_size, config.hidden_size)
    for layer in range(config.layers):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"layers.{layer}.{norm}.weight", (config.hidden_size,)
        for node in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"):
            yield f"layers.{layer}.{node}.weight", linear_shape(config, node)
        for node in ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"):
            yield f"layers.{layer}.{node}.weight", linear_shape(config, node)
    yield "norm.weight", (config.hidden_size,)
    if not config.tied:
        yield "head.weight", linear_shape(config, "head")


def linear_shape(config: DenoiserConfig, node: str) -> tuple[int, int]:
    """[out, in] of a linear layer, as checkpoints store it."""
    width, ffn = config.hidden_size, config.intermediate_size
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    shapes = {
        "q_proj": (queries, width),
        "k_proj": (keys, width),
        "v_proj": (keys, width),
        "o_proj": (width, queries),
        "gate_proj": (ffn, width),
        "up_proj": (ffn, width),
        "down_proj": (width, ffn),
        "head": (config.vocab_size, width),
    }
    return shapes[node.rsplit(".", 1)[-1]]
