"""The step graph as a whole: one model for prefill, denoising, autoregression and verification, rows mixed freely."""

from __future__ import annotations

from dataclasses import dataclass

from dlm_kernels.unmask.function import (
    DOMAIN,
    DOMAIN_VERSION,
    OUTPUTS,
    SHAPE_INPUTS,
    shape_functions,
    shape_node,
    unmask_functions,
    unmask_node,
)
from onnx import ModelProto, TensorProto, helper

from ..backbones import Backbone
from .builder import MICROSOFT, GraphBuilder
from .context import GraphContext
from .mask import build_visible
from .step_values import StepValues
from .window import Window, build_window

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
NO_MASK_TOKEN = -1


@dataclass(frozen=True)
class StepSettings:
    """What the step needs to know beyond the backbone.

    `mask_token_id` is None where canvases start from random tokens: then the step commits nothing by itself. `top_k` is how many
    likeliest tokens it reports per position.
    """

    mask_token_id: int | None
    top_k: int

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k={self.top_k} must be at least 1")


def build_step(settings: StepSettings, g: GraphContext) -> None:
    """Write the whole step into `g`'s builder; inputs and outputs are those of `declare_inputs` and `declare_outputs`."""
    b, backbone = g.b, g.backbone
    declare_inputs(b, backbone, g.arithmetic.cache_type)
    length = b.dimension("input_ids", 1, "length")
    past_length = b.dimension("past.0.key", 2, "past_length")
    visible = build_visible(b, length=length, past_length=past_length)
    x = backbone.build_hidden(g, StepValues(length, past_length, visible))
    window = build_window(b, length=length)
    backbone.build_logits(g, window.take_speakers(b, x, "window.hidden"))
    build_unmask(b, settings, window)
    declare_outputs(b, backbone, settings, g.arithmetic.cache_type)


def build_unmask(b: GraphBuilder, settings: StepSettings, window: Window) -> None:
    """The decision, as one call of `dlm::ParallelUnmask` on what `dlm::ShapeLogits` made of the logits."""
    b.nodes.append(shape_node(SHAPE_INPUTS, "logits.shaped"))
    tokens = window.take(b, "input_ids", "window.tokens")
    positions = window.take(b, "position_ids", "window.positions")
    per_row = ["quota", "threshold", "factor", "measure", "temperature", "rank_temperature", "seed", "step"]
    inputs = ["logits.shaped", tokens, window.live, positions, "allow_rows", "allow_table", *per_row]
    mask = NO_MASK_TOKEN if settings.mask_token_id is None else settings.mask_token_id
    b.nodes.append(unmask_node(inputs, OUTPUTS, mask_token_id=mask, top_k=settings.top_k))


def declare_inputs(b: GraphBuilder, backbone: Backbone, cache_type: int) -> None:
    """B rows, L tokens forwarded, P past columns, W window positions, G allow-table rows, R recent tokens."""
    b.input("input_ids", INT64, ["B", "L"])
    b.input("position_ids", INT64, ["B", "L"])
    b.input("past_lengths", INT64, ["B"])
    b.input("query_lengths", INT64, ["B"])
    b.input("block_ids", INT64, ["B", "L"])
    for layer in range(backbone.layers):
        kv_heads, head_dim = backbone.cache_shape(layer)
        for part in ("key", "value"):
            b.input(f"past.{layer}.{part}", cache_type, ["B", kv_heads, "P", head_dim])
    b.input("window_start", INT64, ["B"])
    b.input("shift", INT64, ["B"])
    b.input("allow_rows", INT64, ["B", "W"])
    b.input("allow_table", FLOAT, ["G", backbone.vocab_size])
    declare_shaping(b)
    b.input("quota", INT64, ["B"])
    b.input("threshold", FLOAT, ["B"])
    b.input("factor", FLOAT, ["B"])
    b.input("measure", INT64, ["B"])
    b.input("temperature", FLOAT, ["B"])
    b.input("rank_temperature", FLOAT, ["B"])
    b.input("seed", INT64, ["B"])
    b.input("step", INT64, ["B"])


def declare_shaping(b: GraphBuilder) -> None:
    """What a row may ask to be done to its logits; see shape_logits.onnxtxt."""
    b.input("scale", FLOAT, ["B"])
    b.input("sample_top_k", INT64, ["B"])
    b.input("sample_top_p", FLOAT, ["B"])
    b.input("repetition_penalty", FLOAT, ["B"])
    b.input("recent_ids", INT64, ["B", "R"])
    b.input("guidance", FLOAT, ["B"])
    b.input("guidance_rows", INT64, ["B"])


def declare_outputs(b: GraphBuilder, backbone: Backbone, settings: StepSettings, cache_type: int) -> None:
    """What a step answers; `logits` are for comparison only and stay unfetched in serving."""
    b.output("canvas", INT64, ["B", "W"])
    b.output("committed", INT64, ["B"])
    b.output("sampled_ids", INT64, ["B", "W"])
    b.output("confidence", FLOAT, ["B", "W"])
    b.output("entropy", FLOAT, ["B", "W"])
    b.output("top_ids", INT64, ["B", "W", settings.top_k])
    b.output("top_logprobs", FLOAT, ["B", "W", settings.top_k])
    for layer in range(backbone.layers):
        kv_heads, head_dim = backbone.cache_shape(layer)
        for part in ("key", "value"):
            b.output(f"present.{layer}.{part}", cache_type, ["B", kv_heads, "L", head_dim])
    b.output("logits", FLOAT, ["B", "W", backbone.vocab_size])


def to_model(b: GraphBuilder, name: str, *, opset: int, ir_version: int) -> ModelProto:
    """Graph, functions and operator sets as one model; the functions' bodies are of the same operator set."""
    graph = helper.make_graph(b.nodes, name, b.inputs, b.outputs, list(b.initializers.values()))
    functions = [*shape_functions(), *unmask_functions()]
    for function in functions:
        for entry in function.opset_import:
            if not entry.domain:
                entry.version = opset
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
    if any(node.domain == MICROSOFT for node in b.nodes):
        opsets.append(helper.make_opsetid(MICROSOFT, 1))
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=ir_version, producer_name="dlm-export")
