"""What is in a bundle: manifest, file sizes, and the graph's own account of itself."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from dlm_runtime.bundle import Bundle, Manifest
from google.protobuf.message import DecodeError

from .errors import ExportError


@dataclass(frozen=True)
class GraphValue:
    """One input or output: element type and dimensions, named ones included."""

    name: str
    element_type: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Inspection:
    """A bundle's contents. `operators` counts nodes of the main graph by type, function calls with their domain."""

    path: Path
    manifest: Manifest
    file_bytes: dict[str, int]
    parameters: int
    operators: dict[str, int]
    functions: tuple[str, ...]
    inputs: tuple[GraphValue, ...]
    outputs: tuple[GraphValue, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "path": str(self.path),
            "manifest": self.manifest.model_dump(mode="json"),
            "file_bytes": self.file_bytes,
            "parameters": self.parameters,
            "operators": self.operators,
            "functions": list(self.functions),
            "inputs": [vars(value) for value in self.inputs],
            "outputs": [vars(value) for value in self.outputs],
        }


def inspect_bundle(path: str | Path) -> Inspection:
    """Read a bundle, hashes checked, weights in external files left alone.

    Raises BundleError as `Bundle.load` does, ExportError where the model file is no ONNX model.
    """
    bundle = Bundle.load(path)
    try:
        model = onnx.load(bundle.model_path, load_external_data=False)
    except DecodeError as error:
        raise ExportError(f"{bundle.model_path}: is no ONNX model ({error}). Export the bundle again") from error
    if not model.graph.node:
        raise ExportError(f"{bundle.model_path}: holds no graph. Export the bundle again")
    names = sorted(["manifest.json", *bundle.manifest.files])
    counts = Counter(f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in model.graph.node)
    return Inspection(
        path=bundle.path,
        manifest=bundle.manifest,
        file_bytes={name: (bundle.path / name).stat().st_size for name in names},
        parameters=sum(math.prod(tensor.dims) for tensor in model.graph.initializer),
        operators=dict(counts.most_common()),
        functions=tuple(f"{function.domain}::{function.name}" for function in model.functions),
        inputs=tuple(graph_value(value) for value in model.graph.input),
        outputs=tuple(graph_value(value) for value in model.graph.output),
    )


def graph_value(value: onnx.ValueInfoProto) -> GraphValue:
    """A typed value of the graph in plain words."""
    tensor = value.type.tensor_type
    shape = tuple(dimension.dim_param or dimension.dim_value for dimension in tensor.shape.dim)
    return GraphValue(value.name, onnx.TensorProto.DataType.Name(tensor.elem_type).lower(), shape)
