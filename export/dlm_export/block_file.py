"""block.onnx, the graph that denoises a whole block in one call, beside the model.onnx that it is made of.

Both refer to the same weight file, so that the bundle does not grow by more than the graph.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from .errors import OptionError
from .graph.block import build_block
from .graph.builder import SMALLEST_STORED_OUTSIDE
from .graph.weight_file import WeightFile

BLOCK_FILE = "block.onnx"
DATA_SUFFIX = ".data"


def write_block(model_file: Path) -> str:
    """Write the block graph of a model and return its file's name; the model's own weights move out of it if they are in it.

    Raises OptionError for a network that has no block graph.
    """
    step = onnx.load(model_file, load_external_data=False)
    try:
        block = build_block(step)
    except ValueError as error:
        raise OptionError("--loop", "cannot be", f"{error}. Leave it out") from error
    if move_weights_out(step, model_file):
        block = build_block(step)
        model_file.unlink()  # it may be a link to another bundle's
        onnx.save_model(step, model_file)
    onnx.save_model(block, model_file.with_name(BLOCK_FILE))
    onnx.checker.check_model(model_file.with_name(BLOCK_FILE))
    return BLOCK_FILE


def move_weights_out(model: ModelProto, model_file: Path) -> bool:
    """Whether there were large weights in the model itself; they are in a file beside it now."""
    large = [tensor for tensor in model.graph.initializer if tensor.HasField("raw_data") and is_large(tensor)]
    if not large:
        return False
    data = model_file.with_name(model_file.name + DATA_SUFFIX)
    if data.exists():
        raise OptionError(
            "--loop", "cannot be", f"{model_file} has weights in itself and in {data.name}. Export the bundle again with --loop"
        )
    with WeightFile(data) as weights:
        for tensor in large:
            weights.append(tensor, [np.frombuffer(tensor.raw_data, np.uint8)])
    return True


def is_large(tensor: TensorProto) -> bool:
    """Whether a tensor is worth a place in the weight file."""
    return math.prod(tensor.dims) >= SMALLEST_STORED_OUTSIDE
