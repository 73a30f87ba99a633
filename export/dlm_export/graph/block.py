"""The block graph: one ONNX `Loop` around the step, so that one call denoises a whole block and stops when nothing is masked any more.

It is made of a finished step graph. What a pass computes anew goes into the loop's body; whatever depends on neither tokens nor the
number of the pass (masks, rotary tables, the window) stays outside and is computed once. Weights are initializers of the outer graph,
with the very names and places in the weight file that they have in the step graph.

Inputs are those of the step graph but for these:

    quota       int64 [B, S]   pass i commits at least quota[:, i], the last column goes on for ever
    limit       int64 [B]      passes at most; 0 leaves a row as it is
    takes_last  bool [B]       a pass that leaves one masked position takes that one too
    canvas_rows int64 [B]      whose canvas a row takes over after each pass, its own index for itself; there with `guidance_rows`

Outputs are `canvas` int64 [B, W], and `passes` int64 [B], how many of them a row took part in. Pass i draws with counter `step + i`, so the
canvas is that of as many calls of the step graph. A row without a mask in its window is left alone from then on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from dlm_kernels.unmask.function import OUTPUTS
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper

from .builder import GraphBuilder
from .step_parts import StepParts, divide, reads_of, renamed

BOOL, INT64 = TensorProto.BOOL, TensorProto.INT64
NEVER_SURE = np.array(2.0, np.float32)  # a threshold that no confidence reaches
# Rows have limits. TensorRT for RTX 1.7.1 counts passes only where there is a number of them, and one below 2^31 - 1.
TRIPS = np.array(2**30, np.int64)
TOKENS, ACTIVE, USED, NUMBER = "pass.tokens", "pass.active", "pass.used", "pass.number"


def build_block(step: ModelProto) -> ModelProto:
    """The block graph of a step graph. Raises ValueError for a step without a mask token, which commits nothing by itself."""
    inputs = [value.name for value in step.graph.input]
    parts = divide(step.graph)
    mask = next(attribute.i for attribute in parts.unmask.attribute if attribute.name == "mask_token_id")
    if mask < 0:
        raise ValueError("this network has no mask token, and its step commits nothing by itself")
    outer, inner = GraphBuilder(), GraphBuilder()
    inner.initializers = outer.initializers
    outer.nodes.extend(parts.before)
    write_before(outer, parts, mask)
    write_pass(inner, parts, mask, inputs)
    body = helper.make_graph(inner.nodes, "pass", *body_signature())
    start = ["block.going", parts.tokens, "block.none_used", "block.active"]
    outputs = ["canvas", "passes", "block.still_active"]
    outer.nodes.append(helper.make_node("Loop", [outer.constant(TRIPS), *start], outputs, name="block.loop", body=body))
    declare(outer, step.graph, reads_of(outer.nodes))
    return as_model(outer, step)


def write_before(b: GraphBuilder, parts: StepParts, mask: int) -> None:
    """Everything that is known before the first pass."""
    last = b.op("Sub", [b.dimension("quota", 1, "block.quota_columns"), b.constant(1)], "block.last_quota")
    b.unsqueeze(last, [0], "block.last_quota_column")
    index = b.range(b.dimension("input_ids", 1, "block.length"), "block.index")  # [L]
    place = b.op("Sub", [index, b.unsqueeze("window_start", [1], "block.start")], "block.place")  # [B, L]
    size = b.dimension("allow_rows", 1, "block.window_size")
    begun = b.op("GreaterOrEqual", [place, b.constant(0)], "block.begun")
    b.op("And", [begun, b.op("Less", [place, size], "block.unfinished")], "block.in_window")
    b.op("Max", [b.op("Min", [place, b.op("Sub", [size, b.constant(1)], "block.last")], "block.capped"), b.constant(0)], "block.clipped")
    masked = masked_places(b, parts.tokens, parts.live, mask, "block")
    allowed = b.op("Greater", ["limit", b.constant(0)], "block.allowed")
    b.op("And", [b.op("Greater", [masked, b.constant(0)], "block.masked"), allowed], "block.active")
    any_row(b, "block.active", "block.going")
    b.op("Sub", ["limit", "limit"], "block.none_used")


def write_pass(b: GraphBuilder, parts: StepParts, mask: int, inputs: Sequence[str]) -> None:
    """One pass: the step on the tokens as they are now, and what is left to do after it. Rows that are done commit nothing."""
    spread = b.op("GatherElements", [TOKENS, "block.clipped"], "pass.spread", axis=1)  # [B, L]
    own = {parts.tokens: TOKENS, "input_ids": b.op("Where", ["block.in_window", spread, "input_ids"], "pass.input_ids")}
    column = b.op("Min", [NUMBER, "block.last_quota_column"], "pass.column")
    quota = b.op("Squeeze", [b.op("Gather", ["quota", column], "pass.quota_column", axis=1), b.constant([1])], "pass.planned")
    own["quota"] = b.op("Where", [ACTIVE, quota, b.constant(0)], "pass.quota")
    own["threshold"] = b.op("Where", [ACTIVE, "threshold", b.constant(NEVER_SURE)], "pass.threshold")
    if "factor" in inputs:
        own["factor"] = b.op("Where", [ACTIVE, "factor", b.constant(0.0)], "pass.factor")
    own["step"] = b.op("Add", ["step", NUMBER], "pass.step")
    decided = {parts.unmask.output[index]: f"pass.{name}" for index, name in enumerate(OUTPUTS)}
    b.nodes.extend(renamed(node, own | decided) for node in parts.each_pass)
    canvas = take_last(b, parts, mask)
    if "guidance_rows" in inputs:
        canvas = b.op("Gather", [canvas, "canvas_rows"], "pass.shared_canvas", axis=0)
    b.op("Identity", [canvas], "pass.canvas_out")
    write_ending(b, parts, mask)


def take_last(b: GraphBuilder, parts: StepParts, mask: int) -> str:
    """The canvas after the pass, with the one position that it left, if one, in rows that take that too."""
    masked = b.op("And", [b.op("Equal", ["pass.canvas", b.constant(mask)], "pass.unfilled"), parts.live], "pass.still_masked")
    count = b.op("ReduceSum", [b.op("Cast", [masked], "pass.still_masked_number", to=INT64), b.constant([1])], "pass.left", keepdims=1)
    only = b.op("And", [b.op("Equal", [count, b.constant(1)], "pass.only_one"), masked], "pass.the_one")  # [B, W]
    taking = b.unsqueeze(b.op("And", ["takes_last", ACTIVE], "pass.taking"), [1], "pass.taking_column")
    last = b.op("And", [only, taking], "pass.taken")
    return b.op("Where", [last, "pass.sampled_ids", "pass.canvas"], "pass.filled")


def write_ending(b: GraphBuilder, parts: StepParts, mask: int) -> None:
    """Which rows go on, and whether any does."""
    b.op("Add", [USED, b.op("Cast", [ACTIVE], "pass.one_more", to=INT64)], "pass.used_out")
    masked = masked_places(b, "pass.canvas_out", parts.live, mask, "pass")
    unfinished = b.op("Greater", [masked, b.constant(0)], "pass.unfinished")
    going = b.op("And", [unfinished, b.op("Less", ["pass.used_out", "limit"], "pass.allowed")], "pass.going_rows")
    b.op("And", [going, ACTIVE], "pass.active_out")
    any_row(b, "pass.active_out", "pass.going_out")


def masked_places(b: GraphBuilder, tokens: str, live: str, mask: int, at: str) -> str:
    """How many places of the window hold the mask, [B]."""
    is_mask = b.op("And", [b.op("Equal", [tokens, b.constant(mask)], f"{at}.is_mask"), live], f"{at}.is_live_mask")
    return b.op("ReduceSum", [b.op("Cast", [is_mask], f"{at}.mask_number", to=INT64), b.constant([1])], f"{at}.masks", keepdims=0)


def any_row(b: GraphBuilder, rows: str, name: str) -> str:
    """Whether bool [B] is true anywhere, as a scalar."""
    count = b.op("ReduceSum", [b.op("Cast", [rows], f"{name}.number", to=INT64), b.constant([0])], f"{name}.count", keepdims=0)
    return b.op("Greater", [count, b.constant(0)], name)


def body_signature() -> tuple[list[ValueInfoProto], list[ValueInfoProto]]:
    """Inputs and outputs of the loop's body, as ONNX orders them: number and condition of the pass, then what is handed on."""
    value = helper.make_tensor_value_info
    number, going = value(NUMBER, INT64, []), value("pass.going", BOOL, [])
    before = [value(TOKENS, INT64, ["B", "W"]), value(USED, INT64, ["B"]), value(ACTIVE, BOOL, ["B"])]
    after = [value("pass.canvas_out", INT64, ["B", "W"]), value("pass.used_out", INT64, ["B"]), value("pass.active_out", BOOL, ["B"])]
    return [number, going, *before], [value("pass.going_out", BOOL, []), *after]


def declare(b: GraphBuilder, step: GraphProto, read: set[str]) -> None:
    """The step's inputs, as far as they are read, with those of the block in place of `quota`; and the outputs."""
    for value in step.input:
        if value.name == "quota":
            b.input("quota", INT64, ["B", "S"])
        elif value.name in read:
            b.inputs.append(value)
    b.input("limit", INT64, ["B"])
    b.input("takes_last", BOOL, ["B"])
    if "canvas_rows" in read:
        b.input("canvas_rows", INT64, ["B"])
    b.output("canvas", INT64, ["B", "W"])
    b.output("passes", INT64, ["B"])


def as_model(b: GraphBuilder, step: ModelProto) -> ModelProto:
    """Graph, functions and operator sets as one model, with those weights of the step that are read."""
    read = reads_of(b.nodes)
    weights = {tensor.name: tensor for tensor in step.graph.initializer if tensor.name in read}
    initializers = [*weights.values(), *(tensor for name, tensor in b.initializers.items() if name not in weights)]
    graph = helper.make_graph(b.nodes, f"{step.graph.name}_block", b.inputs, b.outputs, initializers)
    used = {"ir_version": step.ir_version, "producer_name": step.producer_name}
    return helper.make_model(graph, functions=list(step.functions), opset_imports=list(step.opset_import), **used)
