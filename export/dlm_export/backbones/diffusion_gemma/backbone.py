"""DiffusionGemma as a backbone: tensors, torch form, graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ...graph.context import GraphContext
from ...graph.norm import build_rms_norm
from ...graph.step_values import StepValues
from ..backbone import Backbone
from .config import DiffusionGemmaConfig
from .graph.embedding import TABLE, build_embedding
from .graph.inputs import declare_inputs
from .graph.layer import build_layer
from .graph.rotary import build_rotary
from .graph.visibility import build_biases
from .module import DiffusionGemma

Shapes = Iterator[tuple[str, tuple[int, ...]]]
LAYER_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
    "post_feedforward_layernorm_1",
    "pre_feedforward_layernorm_2",
    "post_feedforward_layernorm_2",
)


@dataclass(frozen=True)
class DiffusionGemmaBackbone(Backbone[DiffusionGemmaConfig]):
    """See `Backbone`. Tensor names are those of `DiffusionGemma`, whose torch form also takes the role and the self-conditioning.

    The graph has inputs of its own, see graph/inputs.py. Columns of the past are counted from the first encoded token.
    """

    embedding_name: ClassVar[str] = TABLE
    has_roles: ClassVar[bool] = True

    def cache_shape(self, layer: int) -> tuple[int, int]:
        """Differs between sliding and full layers."""
        kind = self.config.attention(layer)
        return kind.kv_heads, kind.head_dim

    def tensor_shapes(self) -> Shapes:
        """Embedding, self-conditioning, layers, final norm; the head is the embedding."""
        c = self.config
        yield TABLE, (c.vocab_size, c.hidden_size)
        yield "self_conditioning.pre_norm.weight", (c.hidden_size,)
        yield from gated_shapes("self_conditioning", c)
        for layer in range(c.layers):
            yield from layer_shapes(c, layer)
        yield "norm.weight", (c.hidden_size,)

    def module(self) -> nn.Module:
        """The plain torch form."""
        return DiffusionGemma(self.config)

    def build_hidden(self, g: GraphContext, step: StepValues) -> str:
        """Own inputs, embedding with self-conditioning, all layers."""
        c = self.config
        roles = declare_inputs(g.b, c.vocab_size)
        biases, rotary = build_biases(g.b, c, step), build_rotary(g.b, c)
        x = build_embedding(g, c, roles)
        for layer in range(c.layers):
            kind = c.attention(layer)
            x = build_layer(g, c, layer, x, rotary[kind], biases[kind], roles)
        return x

    def build_logits(self, g: GraphContext, x: str) -> str:
        """Final norm, head, soft cap: `cap * tanh(logits / cap)`."""
        b, cap = g.b, g.b.constant(self.config.logit_cap)
        raw = g.head(build_rms_norm(g, "norm", x, self.config.norm_eps), TABLE, node="logits.uncapped")
        bent = b.op("Tanh", [b.op("Div", [raw, cap], "logits.in_caps")], "logits.bent")
        return b.op("Mul", [bent, cap], "logits")


def layer_shapes(c: DiffusionGemmaConfig, layer: int) -> Shapes:
    """One layer."""
    at, kind = f"layers.{layer}", c.attention(layer)
    for name in LAYER_NORMS:
        yield f"{at}.{name}.weight", (c.hidden_size,)
    queries, keys = c.heads * kind.head_dim, kind.kv_heads * kind.head_dim
    values = () if kind.window is None else (("v", (keys, c.hidden_size)),)
    for part, shape in (("q", (queries, c.hidden_size)), ("k", (keys, c.hidden_size)), *values, ("o", (c.hidden_size, queries))):
        yield f"{at}.self_attn.{part}_proj.weight", shape
    yield f"{at}.self_attn.q_norm.weight", (kind.head_dim,)
    yield f"{at}.self_attn.k_norm.weight", (kind.head_dim,)
    yield from gated_shapes(f"{at}.mlp", c)
    yield f"{at}.router.proj.weight", (c.experts, c.hidden_size)
    yield f"{at}.router.scale", (c.hidden_size,)
    yield f"{at}.router.per_expert_scale", (c.experts,)
    for index in range(c.experts):
        yield f"{at}.experts.{index}.gate_up_proj.weight", (2 * c.expert_size, c.hidden_size)
        yield f"{at}.experts.{index}.down_proj.weight", (c.hidden_size, c.expert_size)
    yield f"{at}.encoder_layer_scalar", (1,)
    yield f"{at}.layer_scalar", (1,)


def gated_shapes(at: str, c: DiffusionGemmaConfig) -> Shapes:
    """Gate, up and down projections of the common width."""
    for part in ("gate", "up"):
        yield f"{at}.{part}_proj.weight", (c.intermediate_size, c.hidden_size)
    yield f"{at}.down_proj.weight", (c.hidden_size, c.intermediate_size)
