"""Launching a plan: plainly, and as CUDA graphs for shapes that come again."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from dlm_runtime.engines.native.libraries import Libraries
from dlm_runtime.engines.native.memory import Memory
from dlm_runtime.errors import EngineError

CAPTURE_AT = 4  # runs of a shape before it is captured: a capture costs a context, and shapes that are rare never pay for it
KEPT_GRAPHS = 16
_KEPT_COUNTS = 256
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """One run. `key` stands for profile, shapes and addresses as long as no block of memory moves."""

    key: Hashable
    profile: int
    shapes: dict[str, tuple[int, ...]]  # of the inputs
    addresses: dict[str, int]  # of inputs and outputs


@dataclass(frozen=True, slots=True)
class _Graph:
    """A recorded run. It uses its context's state, so the two live and die together."""

    handle: Any
    context: Any


class Runner:
    """Runs an engine on the device's stream. Contexts use one piece of working memory, as only one runs at a time.

    What changes between two runs of a captured shape is the contents of buffers, never their addresses. A context of its own for every
    graph, because a context that goes on to other shapes changes what its graphs read.
    """

    def __init__(self, libraries: Libraries, engine: Any, memory: Memory, graphs: bool = True) -> None:
        self._libraries = libraries
        self._engine = engine
        self._memory = memory
        self._device = memory.device
        self._scratch = memory.on_device()
        self._scratch_bytes = int(engine.device_memory_size_v2)
        self._scratch.reserve(self._scratch_bytes)
        self._contexts: dict[int, Any] = {}  # by profile
        self._bound: dict[int, Hashable] = {}  # what each of them is set to
        self._counts: OrderedDict[Hashable, int] = OrderedDict()
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
        self._moves = memory.moves
        self.no_graphs: str | None = None if graphs else "they are switched off"

    @property
    def graphs(self) -> int:
        """How many shapes are captured."""
        return len(self._graphs)

    def run(self, call: Call) -> None:
        """Puts the run into the stream. Raises EngineError."""
        if self._memory.moves != self._moves:
            self._forget()
        if graph := self._graphs.get(call.key):
            self._graphs.move_to_end(call.key)
            self._device.launch(graph.handle)
            return
        context = self._contexts.get(call.profile)
        if context is None:
            context = self._contexts[call.profile] = self._context(call.profile)
        if self._bound.get(call.profile) != call.key:
            self._bound.pop(call.profile, None)
            self._bind(context, call)
            self._bound[call.profile] = call.key
        self._enqueue(context)
        if self.no_graphs is None and self._counted(call.key) == CAPTURE_AT:
            self._capture(call)

    def give_up_graphs(self, reason: str) -> None:
        """From now on every run is a plain one. Says so in the log, once."""
        if self.no_graphs is None:
            self.no_graphs = reason
            _log.warning("CUDA graphs are off for this plan, its steps are launched plainly: %s", reason)

    def close(self) -> None:
        """Frees graphs and contexts."""
        self._forget()
        self._contexts.clear()

    def _forget(self) -> None:
        """Drops all that remembers addresses."""
        graphs = list(self._graphs.values())
        self._graphs.clear()
        self._bound.clear()
        self._counts.clear()
        self._moves = self._memory.moves
        for graph in graphs:
            self._device.free_graph(graph.handle)

    def _counted(self, key: Hashable) -> int:
        count = self._counts.pop(key, 0) + 1
        self._counts[key] = count
        if len(self._counts) > _KEPT_COUNTS:
            self._counts.popitem(last=False)
        return count

    def _capture(self, call: Call) -> None:
        """Records the run; what goes wrong with it costs the graphs, not the step, which has been run."""
        try:
            context = self._context(call.profile, eager=True)
            self._bind(context, call)
            self._enqueue(context)  # a context does postponed work in its first run after a change, which must not be recorded
            if hasattr(context, "is_stream_capturable") and not context.is_stream_capturable(self._device.stream):
                self.give_up_graphs("TensorRT says that the plan cannot be captured, as with control flow that is decided on the device")
                return
            self._device.wait()
            self._device.begin_capture()
            try:
                self._enqueue(context)
                handle = self._device.end_capture()
            except EngineError:
                self._device.abandon_capture()
                raise
        except EngineError as error:
            self.give_up_graphs(str(error))
            return
        self._graphs[call.key] = _Graph(handle, context)
        if len(self._graphs) > KEPT_GRAPHS:
            self._device.wait()
            self._device.free_graph(self._graphs.popitem(last=False)[1].handle)

    def _context(self, profile: int, eager: bool = False) -> Any:
        trt, engine = self._libraries.trt, self._engine
        managed = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if eager and hasattr(engine, "create_runtime_config"):
            # TensorRT for RTX runs new shapes with general kernels until it has compiled better ones; a graph would keep the general ones.
            config = engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(managed)
            config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
            context = engine.create_execution_context(config)
        else:
            context = engine.create_execution_context(managed)
        if context is None:
            raise EngineError(
                "TensorRT made no execution context", "The card may be out of memory: build with smaller sizes, see docs/engines.md"
            )
        context.set_device_memory(self._scratch.address, self._scratch_bytes)
        if not context.set_optimization_profile_async(profile, self._device.stream):
            raise EngineError(f"TensorRT does not take profile {profile} of the plan")
        self._device.wait()
        return context

    def _bind(self, context: Any, call: Call) -> None:
        for name, shape in call.shapes.items():
            if not context.set_input_shape(name, shape):
                raise EngineError(f"TensorRT does not take input {name!r} of shape {list(shape)} with profile {call.profile}")
        for name, address in call.addresses.items():
            if not context.set_tensor_address(name, address):
                raise EngineError(f"TensorRT does not take an address for {name!r}")
        if missing := context.infer_shapes():
            raise EngineError(f"TensorRT says that these inputs are not set: {', '.join(missing)}")

    def _enqueue(self, context: Any) -> None:
        if not context.execute_async_v3(self._device.stream):
            raise EngineError("TensorRT refused to run the step; its reason is in the log")
