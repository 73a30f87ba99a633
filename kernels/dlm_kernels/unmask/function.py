"""`dlm::ParallelUnmask` as an ONNX model-local function, read from its text, and the node that calls it."""

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
    "temperature",
    "seed",
    "step",
)
OUTPUTS = ("canvas", "committed", "sampled_ids", "confidence", "entropy", "top_ids", "top_logprobs")


def read_function(file_name: str) -> FunctionProto:
    """Parse one function written in the ONNX text format beside this file."""
    return parser.parse_function(files("dlm_kernels.unmask").joinpath(file_name).read_text(encoding="utf-8"))


def unmask_functions() -> list[FunctionProto]:
    """The functions a model needs in its `functions` for `unmask_node` to run on any backend."""
    return [read_function("scramble.onnxtxt"), read_function("parallel_unmask.onnxtxt")]


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
