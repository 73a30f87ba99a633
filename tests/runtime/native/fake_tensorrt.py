"""A stand-in for tensorrt_rtx: plans that name an ONNX file, run by ONNX Runtime on the pretended device's memory.

A run uses shapes and addresses as they were when it was enqueued, or recorded, and takes place when the stream is waited for.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort

TYPES = {
    "tensor(int64)": np.int64,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(bool)": np.bool_,
}
MAGIC = "PLAN"


def write_plan(file: Path, model: Path, profiles: tuple[Any, ...]) -> None:
    """A plan of `model` for the manifest's `profiles`."""
    dimensions = [profile.dimensions for profile in profiles]
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"magic": MAGIC, "model": str(model), "profiles": dimensions}), encoding="utf-8")


class FakeTensorRT:
    """The module. `capturable`, `on_host` and `refusing` change how its engines behave; `contexts` are all that were made."""

    def __init__(self, cuda: Any) -> None:
        self.__name__ = "tensorrt_rtx"
        self.__version__ = "1.7.1"
        self.cuda = cuda
        self.capturable = True
        self.on_host: set[str] = set()
        self.refusing: set[str] = set()  # methods of a context that say no
        self.contexts: list[FakeContext] = []
        self.plugins: dict[str, bool] = {}
        self.TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
        self.TensorLocation = SimpleNamespace(DEVICE="device", HOST="host")
        self.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user")
        self.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")
        self.ILogger = FakeLogger

    def Runtime(self, logger: Any) -> Any:
        def deserialize(data: bytes) -> FakeEngine | None:
            try:
                plan = json.loads(data)
                assert plan["magic"] == MAGIC
            except (ValueError, KeyError, AssertionError):
                logger.log(FakeLogger.ERROR, "Serialization assertion header.magicTag == kEXPECTED_MAGIC_TAG\n failed")
                return None
            return FakeEngine(self, plan)

        return SimpleNamespace(deserialize_cuda_engine=deserialize)

    def get_plugin_registry(self) -> Any:
        return SimpleNamespace(load_library=lambda path: object() if self.plugins.get(path) else None)


class FakeLogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)

    def __init__(self) -> None:
        pass


class FakeEngine:
    device_memory_size_v2 = 5000

    def __init__(self, trt: FakeTensorRT, plan: dict[str, Any]) -> None:
        self.trt = trt
        self.session = ort.InferenceSession(plan["model"], providers=["CPUExecutionProvider"])
        self.inputs = {node.name: node for node in self.session.get_inputs()}
        self.outputs = {node.name: node for node in self.session.get_outputs()}
        self.profiles = plan["profiles"]
        self.num_optimization_profiles = len(self.profiles)
        self.names = [*self.inputs, *self.outputs]
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name in self.inputs else "out"

    def get_tensor_location(self, name: str) -> str:
        return "host" if name in self.trt.on_host else "device"

    def create_runtime_config(self) -> Any:
        return SimpleNamespace(set_execution_context_allocation_strategy=lambda strategy: None)

    def create_execution_context(self, config: Any) -> FakeContext:
        context = FakeContext(self, eager=config != "user")
        self.trt.contexts.append(context)
        return context


class FakeContext:
    def __init__(self, engine: FakeEngine, eager: bool) -> None:
        self.engine, self.eager = engine, eager
        self.profile: int | None = None
        self.memory: tuple[int, int] | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.runs = 0

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= self.engine.device_memory_size_v2
        assert self.engine.trt.cuda.room(address, size, self.engine.trt.cuda.device)
        self.memory = (address, size)

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        self.profile = number
        self.shapes.clear()
        return "set_optimization_profile_async" not in self.engine.trt.refusing

    def is_stream_capturable(self, stream: int) -> bool:
        return self.engine.trt.capturable

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self.profile is not None
        sizes = self.engine.profiles[self.profile]
        for size, dimension in zip(shape, self.engine.inputs[name].shape, strict=True):
            smallest, _, largest = sizes.get(dimension, (dimension,) * 3)
            if not smallest <= size <= largest:
                return False
        self.shapes[name] = tuple(shape)
        return "set_input_shape" not in self.engine.trt.refusing

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return address % 256 == 0 and address != 0

    def infer_shapes(self) -> list[str]:
        return [name for name in self.engine.inputs if name not in self.shapes]

    def execute_async_v3(self, stream: int) -> bool:
        cuda = self.engine.trt.cuda
        if "execute_async_v3" in self.engine.trt.refusing or (cuda.recording is not None and "capture" in self.engine.trt.refusing):
            return False
        assert stream == 77
        assert self.memory is not None
        assert cuda.room(*self.memory, cuda.device)
        shapes, addresses = dict(self.shapes), dict(self.addresses)
        assert shapes.keys() == self.engine.inputs.keys()
        assert addresses.keys() == {*self.engine.names}
        self.runs += 1
        cuda.put(lambda: self._run(shapes, addresses))
        return True

    def _run(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        session = self.engine.session
        feeds = {name: self._read(name, shapes[name], addresses[name]).copy() for name in self.engine.inputs}
        for (name, node), value in zip(self.engine.outputs.items(), session.run(None, feeds), strict=True):
            assert value.dtype == TYPES[node.type]
            room = self._memory(name, addresses[name], value.nbytes)
            room[...] = np.frombuffer(value.tobytes(), np.uint8)

    def _read(self, name: str, shape: tuple[int, ...], address: int) -> np.ndarray:
        element = np.dtype(TYPES[self.engine.inputs[name].type])
        size = int(np.prod(shape, dtype=np.int64)) * element.itemsize
        return self._memory(name, address, size).view(element).reshape(shape)

    def _memory(self, name: str, address: int, size: int) -> np.ndarray:
        cuda = self.engine.trt.cuda
        memory = cuda.host if name in self.engine.trt.on_host else cuda.device
        for start, block in memory.items():
            if start <= address and address + size <= start + len(block):
                return block[address - start : address - start + size]
        raise AssertionError(f"{name} lies at {address} with {size} bytes, which were never allocated there")
