"""The step graph as a whole: one model for prefill, denoising, autoregression and verification, rows mixed freely."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dlm_kernels.unmask.function import DOMAIN, DOMAIN_VERSION, unmask_functions, unmask_node
from onnx import ModelProto, TensorProto, helper

from ..denoiser import DenoiserConfig
from ..precision import LinearWriter
from ..weights import LinearWeight, WeightReader
from .builder import GraphBuilder
from .context import GraphContext
from .layer import build_layer, build_norm
from .mask import build_mask
from .rotary import build_rotary
from .window import Window, build_window

OPSET = 18
IR_VERSION = 10
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


@dataclass(frozen=True)
class StepSettings:
    """What the step needs to know beyond the backbone. `top_k` is how many likeliest tokens it reports per position."""

    mask_token_id: int
    top_k: int

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k={self.top_k} must be at least 1")


def build_step_model(settings: StepSettings, weights: WeightReader, linear_writer: LinearWriter, *, name: str = "step") -> ModelProto:
    """Build the model; inputs and outputs are those of `declare_inputs` and `declare_outputs`."""
    b, config = GraphBuilder(), weights.config
    g = GraphContext(b, weights, linear_writer)
    declare_inputs(b, config)
    length = b.dimension("input_ids", 1, "length")
    past_length = b.dimension("past.0.key", 2, "past_length")
    mask = build_mask(b, length=length, past_length=past_length, query_groups=config.heads // config.kv_heads)
    rotary = build_rotary(b, config)

    embedding_key, embedding = weights.embedding()
    x = b.op("Gather", [b.weight(embedding_key, embedding), "input_ids"], "embed_tokens")
    for layer in range(config.layers):
        x = build_layer(g, layer, x, rotary, mask)
    window = build_window(b, length=length)
    build_head(g, build_norm(g, "norm", window.take(b, x, "window.hidden")))
    build_unmask(b, settings, window)
    declare_outputs(b, config, settings)
    return to_model(b, name)


def build_head(g: GraphContext, x: str) -> None:
    """`logits` [B, W, V]; a tied head is the embedding table again."""
    if g.config.tied:
        key, embedding = g.weights.embedding()
        head = LinearWeight("logits", key, embedding.T)
    else:
        head = replace(g.weights.linear("head"), node="logits")
    g.linear_writer.write(g.b, x, head, like="allow_rows")


def build_unmask(b: GraphBuilder, settings: StepSettings, window: Window) -> None:
    """The decision, as one call of `dlm::ParallelUnmask`."""
    tokens = window.take(b, "input_ids", "window.tokens")
    positions = window.take(b, "position_ids", "window.positions")
    per_row = ["quota", "threshold", "temperature", "seed", "step"]
    inputs = ["logits", tokens, window.live, positions, "allow_rows", "allow_table", *per_row]
    outputs = ["canvas", "committed", "sampled_ids", "confidence", "entropy", "top_ids", "top_logprobs"]
    b.nodes.append(unmask_node(inputs, outputs, mask_token_id=settings.mask_token_id, top_k=settings.top_k))


def declare_inputs(b: GraphBuilder, config: DenoiserConfig) -> None:
    """B rows, L tokens forwarded, P past columns, W window positions, G allow-table rows."""
    b.input("input_ids", INT64, ["B", "L"])
    b.input("position_ids", INT64, ["B", "L"])
    b.input("past_lengths", INT64, ["B"])
    b.input("query_lengths", INT64, ["B"])
    b.input("causal", BOOL, ["B"])
    for layer in range(config.layers):
        for part in ("key", "value"):
            b.input(f"past.{layer}.{part}", FLOAT, ["B", config.kv_heads, "P", config.head_dim])
    b.input("window_start", INT64, ["B"])
    b.input("allow_rows", INT64, ["B", "W"])
    b.input("allow_table", FLOAT, ["G", config.vocab_size])
    b.input("quota", INT64, ["B"])
    b.input("threshold", FLOAT, ["B"])
    b.input("temperature", FLOAT, ["B"])
    b.input("seed", INT64, ["B"])
    b.input("step", INT64, ["B"])


def declare_outputs(b: GraphBuilder, config: DenoiserConfig, settings: StepSettings) -> None:
    """What a step answers; `logits` are for comparison only and stay unfetched in serving."""
    b.output("canvas", INT64, ["B", "W"])
    b.output("committed", INT64, ["B"])
    b.output("sampled_ids", INT64, ["B", "W"])
    b.output("confidence", FLOAT, ["B", "W"])
    b.output("entropy", FLOAT, ["B", "W"])
    b.output("top_ids", INT64, ["B", "W", settings.top_k])
    b.output("top_logprobs", FLOAT, ["B", "W", settings.top_k])
    for layer in range(config.layers):
        for part in ("key", "value"):
            b.output(f"present.{layer}.{part}", FLOAT, ["B", config.kv_heads, "L", config.head_dim])
    b.output("logits", FLOAT, ["B", "W", config.vocab_size])


def to_model(b: GraphBuilder, name: str) -> ModelProto:
    """Graph, functions and operator sets as one model."""
    graph = helper.make_graph(b.nodes, name, b.inputs, b.outputs, list(b.initializers.values()))
    return helper.make_model(
        graph,
        functions=unmask_functions(),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)],
        ir_version=IR_VERSION,
        producer_name="dlm-export",
    )
