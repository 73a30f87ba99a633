"""Embeddings, and for a canvas what the previous step thought of it."""

from __future__ import annotations

from onnx import TensorProto

from ....graph.context import GraphContext
from ....graph.norm import build_rms_norm, rms_norm
from ..config import DiffusionGemmaConfig
from .feed_forward import build_gated_mlp
from .inputs import Roles

TABLE = "embed_tokens.weight"
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)


def build_embedding(g: GraphContext, config: DiffusionGemmaConfig, roles: Roles) -> str:
    """[B, L, D]: scaled embeddings for the encoder; for the decoder with self-conditioning added, and normed."""
    b = g.b
    x = b.op("Mul", [g.embedding(TABLE, "input_ids", "embed_tokens"), b.constant(config.embedding_scale)], "embed_tokens.scaled")
    conditioned = b.op("Add", [x, build_self_conditioning(g, config, roles)], "self_conditioning.sum")
    decoded = rms_norm(g, conditioned, None, config.norm_eps, "self_conditioning.post_norm")
    return roles.choose(b, x, decoded, "embedded")


def build_self_conditioning(g: GraphContext, config: DiffusionGemmaConfig, roles: Roles) -> str:
    """What is added to the canvas, [B, S, D]: nothing where a row has no previous step, as the layers have no bias."""
    b, at = g.b, "self_conditioning"
    expected = b.op("Where", [roles.self_conditioned, build_expected(g, config), b.constant(0.0)], f"{at}.expected_or_none")
    rows = b.op("Reshape", [expected, b.constant([-1, config.hidden_size])], f"{at}.rows")
    signal = build_gated_mlp(g, at, build_rms_norm(g, f"{at}.pre_norm", rows, config.norm_eps), config.intermediate_size, rows=True)
    return b.op("Reshape", [signal, b.op("Shape", [expected], f"{at}.shape")], f"{at}.signal")


def build_expected(g: GraphContext, config: DiffusionGemmaConfig) -> str:
    """The mean embedding [B, S, D] under the logits `self_conditioning` [B, S, V]."""
    b, at = g.b, "self_conditioning"
    probabilities = b.op("Softmax", ["self_conditioning"], f"{at}.probabilities", axis=-1)
    stored = b.initializers.get(g.weights.key(TABLE))
    if stored is not None and stored.data_type in FLOATS:
        plain = stored.data_type == TensorProto.FLOAT
        table = stored.name if plain else b.op("Cast", [stored.name], f"{at}.table", to=TensorProto.FLOAT)
        mean = b.op("MatMul", [probabilities, table], f"{at}.mean")
    else:  # the look-up has the table in another form, which no product can take
        rows = b.op("Reshape", [probabilities, b.constant([-1, config.vocab_size])], f"{at}.probability_rows")
        counts = b.op("Shape", ["self_conditioning"], f"{at}.counts", start=0, end=2)
        shape = b.op("Concat", [counts, b.constant([config.hidden_size])], f"{at}.mean_shape", axis=0)
        mean = b.op("Reshape", [g.matrix(f"{at}.table", g.values(TABLE), rows, rows=True), shape], f"{at}.mean")
    return b.op("Mul", [mean, b.constant(config.embedding_scale)], f"{at}.expected")
