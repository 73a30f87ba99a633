"""A thin layer over onnx.helper: values are their names, and a node is named after what it computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Shape = Sequence[int | str]


class GraphBuilder:
    """Collects inputs, outputs, nodes and initializers of one graph."""

    def __init__(self) -> None:
        self.inputs: list[ValueInfoProto] = []
        self.outputs: list[ValueInfoProto] = []
        self.nodes: list[NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}
        self._shared: set[str] = set()

    def input(self, name: str, element_type: int, shape: Shape) -> str:
        """Declare a graph input."""
        self.inputs.append(helper.make_tensor_value_info(name, element_type, list(shape)))
        return name

    def output(self, name: str, element_type: int, shape: Shape) -> None:
        """Declare that the value `name` is a graph output."""
        self.outputs.append(helper.make_tensor_value_info(name, element_type, list(shape)))

    def weight(self, name: str, value: NDArray[Any]) -> str:
        """An initializer; a name is given once."""
        if name in self.initializers:
            raise ValueError(f"initializer {name!r} exists already")
        self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def constant(self, value: int | float | Sequence[int] | NDArray[Any]) -> str:
        """A small constant, shared by all who ask for the same: int64 for integers, float32 for floats."""
        array = value if isinstance(value, np.ndarray) else np.array(value, dtype=np.float32 if isinstance(value, float) else np.int64)
        kind = "int" if array.dtype == np.int64 else str(array.dtype)
        digits = "_".join(str(item) for item in array.ravel().tolist())
        name = f"const.{kind}{'s' if array.ndim else ''}.{digits}"
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def op(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node with one output; node and value are both called `name`."""
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def shared(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """As `op`, but whoever asks again for the same name gets the value that is there."""
        if name not in self._shared:
            self._shared.add(self.op(kind, inputs, name, **attributes))
        return name

    def split(self, value: str, sizes: Sequence[int], names: Sequence[str], *, axis: int = -1) -> list[str]:
        """Cut a value along an axis into parts of the given sizes."""
        parts = list(names)
        self.nodes.append(helper.make_node("Split", [value, self.constant(list(sizes))], parts, name=f"{parts[0]}.split", axis=axis))
        return parts

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
