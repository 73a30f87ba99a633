"""Builds an engine from an ONNX file with TensorRT for RTX and prints its size in bytes, 0 if it is refused: rtx_build.py MODEL

Runs as a process of its own, for the library may abort. Dimensions with a name get 1, 8 and 32 as smallest, usual and largest.
"""

from __future__ import annotations

import sys

import onnx
import tensorrt_rtx as trt  # pyright: ignore[reportMissingImports]

SIZES = (1, 8, 32)


def build(path: str) -> int:
    """Size of the engine, 0 where parser or builder refuse the model."""
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(path):
        return 0
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    for value in onnx.load(path, load_external_data=False).graph.input:
        dimensions = value.type.tensor_type.shape.dim
        profile.set_shape(value.name, *(tuple(item.dim_value or size for item in dimensions) for size in SIZES))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    return 0 if engine is None else engine.nbytes


if __name__ == "__main__":
    print(build(sys.argv[1]))
