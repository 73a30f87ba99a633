"""`dlm::ParallelUnmask` and `dlm::ShapeLogits` as ONNX model-local functions, read from their text, and the nodes that call them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from onnx import FunctionProto, NodeProto, helper, parser

DOMAIN = "dlm"
DOMAIN_VERSION = 1
PLUGIN_VERSION = "1"

INPUTS = (
    "logits",
    "tokens",
    "live",
    "positions",
    "allow_rows",
    "allow_table",
    "quota",
    "threshold",
    "factor",
    "measure",
    "temperature",
    "rank_temperature",
    "seed",
    "step",
)
OUTPUTS = ("canvas", "committed", "sampled_ids", "confidence", "entropy", "top_ids", "top_logprobs")

SHAPE_INPUTS = (
    "logits",
    "allow_rows",
    "allow_table",
    "temperature",
    "scale",
    "sample_top_k",
    "sample_top_p",
    "repetition_penalty",
    "recent_ids",
    "guidance",
    "guidance_rows",
)


def read_function(file_name: str) -> FunctionProto:
    """Parse one function written in the ONNX text format beside this file."""
    return parser.parse_function(files("dlm_kernels.unmask").joinpath(file_name).read_text(encoding="utf-8"))


def unmask_functions() -> list[FunctionProto]:
    """The functions a model needs in its `functions` for `unmask_node` to run on any backend."""
    return [read_function(f"{name}.onnxtxt") for name in ("scramble", "gumbel_noise", "parallel_unmask")]


def shape_functions() -> list[FunctionProto]:
    """The functions a model needs in its `functions` for `shape_node` to run on any backend."""
    return [read_function("shape_logits.onnxtxt")]


def unmask_node(inputs: Sequence[str], outputs: Sequence[str], *, mask_token_id: int, top_k: int, name: str = "unmask") -> NodeProto:
    """The calling node: value names in the order of `INPUTS` and `OUTPUTS`.

    The two `plugin_*` attributes let TensorRT take a plugin of that name where one is registered; everyone else runs the body.
    """
    if len(inputs) != len(INPUTS) or len(outputs) != len(OUTPUTS):
        raise ValueError(f"ParallelUnmask takes {len(INPUTS)} inputs and {len(OUTPUTS)} outputs, got {len(inputs)} and {len(outputs)}")
    return helper.make_node(
        "ParallelUnmask",
        list(inputs),
        list(outputs),
        name=name,
        domain=DOMAIN,
        mask_token_id=mask_token_id,
        top_k=top_k,
        plugin_namespace=DOMAIN,
        plugin_version=PLUGIN_VERSION,
    )


def shape_node(inputs: Sequence[str], output: str, *, name: str = "shape") -> NodeProto:
    """The node that runs before: value names in the order of `SHAPE_INPUTS`; no plugin takes its place."""
    if len(inputs) != len(SHAPE_INPUTS):
        raise ValueError(f"ShapeLogits takes {len(SHAPE_INPUTS)} inputs, got {len(inputs)}")
    return helper.make_node("ShapeLogits", list(inputs), [output], name=name, domain=DOMAIN)
