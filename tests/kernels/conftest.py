"""Models of nothing but a call of `dlm::ShapeLogits`, of `dlm::ParallelUnmask`, or of one after the other, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from dlm_kernels.unmask import ShapeInputs, UnmaskInputs, UnmaskOutputs
from dlm_kernels.unmask.function import INPUTS, OUTPUTS, SHAPE_INPUTS, shape_functions, shape_node, unmask_functions, unmask_node
from onnx import TensorProto, helper

MASK, TOP_K = 5, 4
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
WINDOWS = {"tokens": INT64, "live": TensorProto.BOOL, "positions": INT64, "allow_rows": INT64}
WHOLE_NUMBERS = ("quota", "measure", "seed", "step", "sample_top_k", "guidance_rows")
OUTPUT_TYPES = {
    "canvas": (INT64, "BW"),
    "committed": (INT64, "B"),
    "sampled_ids": (INT64, "BW"),
    "confidence": (FLOAT, "BW"),
    "entropy": (FLOAT, "BW"),
    "top_ids": (INT64, "BWK"),
    "top_logprobs": (FLOAT, "BWK"),
    "shaped": (FLOAT, "BWV"),
}


def input_type(name: str) -> tuple[int, str]:
    """Element type, and a letter per dimension."""
    big = {"logits": (FLOAT, "BWV"), "allow_table": (FLOAT, "GV"), "recent_ids": (INT64, "BR")}
    if name in big:
        return big[name]
    return (WINDOWS[name], "BW") if name in WINDOWS else (INT64 if name in WHOLE_NUMBERS else FLOAT, "B")


def value(name: str, kind: int, letters: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(letters))


def model_of(*, shape: bool, unmask: bool, top_k: int = TOP_K, kind: int = FLOAT) -> onnx.ModelProto:
    """Logits come as float32 and are cast to `kind` first."""
    nodes = [helper.make_node("Cast", ["logits"], ["logits.cast"], to=kind)]
    names: list[str] = []
    outputs: list[str] = []
    last = "logits.cast"
    if shape:
        names += SHAPE_INPUTS
        nodes.append(shape_node([last, *SHAPE_INPUTS[1:]], "shaped"))
        last = "shaped"
        outputs.append(last)
    if unmask:
        names += INPUTS
        nodes.append(unmask_node([last, *INPUTS[1:]], OUTPUTS, mask_token_id=MASK, top_k=top_k))
        outputs += OUTPUTS
    graph = helper.make_graph(
        nodes,
        "decision",
        [value(name, *input_type(name)) for name in dict.fromkeys(names)],
        [value(name, *OUTPUT_TYPES[name]) for name in outputs],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("dlm", 1)]
    functions = [*shape_functions(), *unmask_functions()]
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)


@cache
def session_of(**options: Any) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model_of(**options).SerializeToString(), settings, providers=["CPUExecutionProvider"])


def run_unmask(inputs: UnmaskInputs, *, top_k: int = TOP_K, kind: int = FLOAT) -> UnmaskOutputs:
    session = session_of(shape=False, unmask=True, top_k=top_k, kind=kind)
    return UnmaskOutputs(*(np.asarray(found) for found in session.run(list(OUTPUTS), {name: getattr(inputs, name) for name in INPUTS})))


def run_shape(inputs: ShapeInputs, *, kind: int = FLOAT) -> np.ndarray:
    session = session_of(shape=True, unmask=False, kind=kind)
    return np.asarray(session.run(["shaped"], {name: getattr(inputs, name) for name in SHAPE_INPUTS})[0])


def run_both(shaping: ShapeInputs, inputs: UnmaskInputs) -> UnmaskOutputs:
    """Logits, table and temperature are those of `shaping`."""
    feed = {item.name: getattr(inputs, item.name) for item in fields(inputs)} | {name: getattr(shaping, name) for name in SHAPE_INPUTS}
    return UnmaskOutputs(*(np.asarray(found) for found in session_of(shape=True, unmask=True).run(list(OUTPUTS), feed)))


@pytest.fixture(scope="session")
def decision_model() -> Callable[..., onnx.ModelProto]:
    return model_of


@pytest.fixture(scope="session")
def unmask() -> Callable[..., UnmaskOutputs]:
    return run_unmask


@pytest.fixture(scope="session")
def shape() -> Callable[..., np.ndarray]:
    return run_shape


@pytest.fixture(scope="session")
def shape_and_unmask() -> Callable[..., UnmaskOutputs]:
    return run_both
