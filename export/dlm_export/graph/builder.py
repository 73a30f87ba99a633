"""A thin layer over onnx.helper: values are their names, and a node is named after what it computes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from .weight_file import WeightFile

Shape = Sequence[int | str]
LOWEST_OPSET = 18
MICROSOFT = "com.microsoft"  # the domain of ONNX Runtime's own operators
SMALLEST_STORED_OUTSIDE = 1024  # numbers; smaller tensors stay in the graph, where shape inference can see them
SPELLED_OUT_ITEMS = 8  # constants up to this size carry their numbers in their names


class GraphBuilder:
    """Collects inputs, outputs, nodes and initializers of one graph.

    With a `weight_file`, large initializers go to that file at once and do not stay in memory.
    """

    def __init__(self, weight_file: WeightFile | None = None) -> None:
        self.inputs: list[ValueInfoProto] = []
        self.outputs: list[ValueInfoProto] = []
        self.nodes: list[NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}
        self.lowest_opset = LOWEST_OPSET
        self._weight_file = weight_file
        self._shared: set[str] = set()

    def require_opset(self, version: int) -> None:
        """Something in the graph came with this version of the standard operators."""
        self.lowest_opset = max(self.lowest_opset, version)

    def input(self, name: str, element_type: int, shape: Shape) -> str:
        """Declare a graph input."""
        self.inputs.append(helper.make_tensor_value_info(name, element_type, list(shape)))
        return name

    def output(self, name: str, element_type: int, shape: Shape) -> None:
        """Declare that the value `name` is a graph output."""
        self.outputs.append(helper.make_tensor_value_info(name, element_type, list(shape)))

    def weight(self, name: str, value: NDArray[Any]) -> str:
        """An initializer; a name is given once."""
        return self.stacked_weight(name, [value], value.shape, helper.np_dtype_to_tensor_dtype(value.dtype))

    def packed_weight(self, name: str, data: NDArray[np.uint8], shape: Sequence[int], element_type: int) -> str:
        """An initializer from its raw bytes, for element types that numpy has no name for (4-bit integers, two to a byte)."""
        return self.stacked_weight(name, [data], shape, element_type)

    def stacked_weight(self, name: str, parts: Iterable[NDArray[Any]], shape: Sequence[int], element_type: int) -> str:
        """An initializer whose parts, along its first axis, come one after the other and need not be in memory together."""
        if name in self.initializers:
            raise ValueError(f"initializer {name!r} exists already")
        tensor = TensorProto(name=name, dims=shape, data_type=element_type)
        chunks = (np.ascontiguousarray(part).view(np.uint8).reshape(-1) for part in parts)
        if self._weight_file is None or math.prod(shape) < SMALLEST_STORED_OUTSIDE:
            tensor.raw_data = b"".join(chunk.tobytes() for chunk in chunks)
        else:
            self._weight_file.append(tensor, chunks)
        self.initializers[name] = tensor
        return name

    def constant(self, value: int | float | Sequence[int] | NDArray[Any]) -> str:
        """A small constant, shared by all who ask for the same: int64 for integers, float32 for floats."""
        array = value if isinstance(value, np.ndarray) else np.array(value, dtype=np.float32 if isinstance(value, float) else np.int64)
        kind = "int" if array.dtype == np.int64 else str(array.dtype)
        if array.size <= SPELLED_OUT_ITEMS and array.ndim < 2:
            name = f"const.{kind}{'s' if array.ndim else ''}.{'_'.join(str(item) for item in array.ravel().tolist())}"
        else:
            name = f"const.{kind}s.{'x'.join(map(str, array.shape))}.{hashlib.sha256(array.tobytes()).hexdigest()[:12]}"
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def op(self, kind: str, inputs: Sequence[str], name: str, *, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; node and value are both called `name`."""
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes))
        return name

    def op_with(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> tuple[str, ...]:
        """Add a node with several outputs, named after the first."""
        self.nodes.append(helper.make_node(kind, list(inputs), list(outputs), name=f"{outputs[0]}.{kind.lower()}", **attributes))
        return tuple(outputs)

    def shared(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """As `op`, but whoever asks again for the same name gets the value that is there."""
        if name not in self._shared:
            self._shared.add(self.op(kind, inputs, name, **attributes))
        return name

    def split(self, value: str, sizes: Sequence[int], names: Sequence[str], *, axis: int = -1) -> list[str]:
        """Cut a value along an axis into parts of the given sizes."""
        return self.split_by(value, self.constant(list(sizes)), names, axis=axis)

    def split_by(self, value: str, sizes: str, names: Sequence[str], *, axis: int) -> list[str]:
        """Cut a value along an axis into parts whose sizes are a value of the graph."""
        return list(self.op_with("Split", [value, sizes], names, axis=axis))

    def dimension(self, value: str, axis: int, name: str) -> str:
        """One dimension of a value, as a scalar."""
        shape = self.op("Shape", [value], f"{name}.shape", start=axis, end=axis + 1)
        return self.op("Squeeze", [shape, self.constant([0])], name)

    def range(self, length: str, name: str) -> str:
        """0 .. length - 1."""
        return self.op("Range", [self.constant(0), length, self.constant(1)], name)

    def unsqueeze(self, value: str, axes: Sequence[int], name: str) -> str:
        """Insert dimensions of size one."""
        return self.op("Unsqueeze", [value, self.constant(list(axes))], name)
