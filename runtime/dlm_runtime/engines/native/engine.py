"""The native engine: one step is send, run, fetch."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from dlm_runtime.bundle import Bundle, Manifest
from dlm_runtime.engines.base import StepBatch, StepResult
from dlm_runtime.engines.native.device import Device
from dlm_runtime.engines.native.libraries import Libraries
from dlm_runtime.engines.native.memory import Memory
from dlm_runtime.engines.native.plan import StepPlan
from dlm_runtime.engines.native.portions import joined, kept, portions
from dlm_runtime.engines.native.profiles import Profiles, Sizes
from dlm_runtime.engines.native.receiver import Receiver
from dlm_runtime.engines.native.runner import Call, Runner
from dlm_runtime.engines.native.sender import CONDITIONING, Sender
from dlm_runtime.errors import EngineError


class NativeEngine:
    """Runs the TensorRT plan of a bundle's step graph on the first NVIDIA card; `graphs` allows CUDA graphs.

    Batches of more rows than the plan takes are run in portions. Raises EngineError when the bundle has no plan, or when package, driver,
    card or plan will not do; the error names the remedy.
    """

    def __init__(self, bundle: Bundle, graphs: bool = True) -> None:
        self._manifest = bundle.manifest
        plan = StepPlan.of(bundle)
        libraries = Libraries.load(plan.module)
        self._device = Device(libraries.cuda)
        self._memory = Memory(self._device)
        self._closed = False
        logger, errors = libraries.logger()
        self._logger = logger  # the library does not hold on to it
        try:
            card = f"{self._device.name}, compute capability {self._device.capability}"
            self._runtime, engine = plan.read(libraries, logger, errors, card)
            inputs, on_host = self._check(libraries.trt, engine, plan)
            self._profiles = Profiles(plan.plan.profiles, f"dlm-export engine {bundle.path}")
            self._sender = Sender(self._memory, self._manifest, inputs, on_host)
            self._receiver = Receiver(self._memory, self._manifest)
            self._runner = Runner(libraries, engine, self._memory, graphs)
        except BaseException:
            self._closed = True
            with suppress(EngineError):  # the first error is the one to tell
                self._memory.close()
                self._device.close()
            raise
        self._engine: Any = engine
        if on_host and graphs:
            self._runner.give_up_graphs(f"it reads {', '.join(sorted(on_host))} on the host")

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self._manifest

    @property
    def card(self) -> str:
        """Name of the card."""
        return self._device.name

    @property
    def graphs(self) -> str:
        """In words: how many CUDA graphs are held, or why there are none."""
        return f"{self._runner.graphs} captured" if self._runner.no_graphs is None else f"off: {self._runner.no_graphs}"

    def step(self, batch: StepBatch) -> StepResult:
        """One forward pass. Raises EngineError when the card fails, the batch fits no profile, or the engine is closed."""
        if self._closed:
            raise EngineError("the engine is closed")
        self._device.use()
        most = self._profiles.most_rows(Sizes.of(batch))
        if batch.rows <= most:
            return self._step(batch)
        parts = portions(batch, most)
        return joined(batch, [(rows, kept(self._step(part))) for rows, part in parts])

    def close(self) -> None:
        """Frees plan, graphs and memory."""
        if self._closed:
            return
        self._closed = True
        self._device.use()
        self._runner.close()
        self._engine = self._runtime = None
        self._memory.close()
        self._device.close()

    def _step(self, batch: StepBatch) -> StepResult:
        sizes = Sizes.of(batch)
        profile = self._profiles.choose(sizes)
        try:
            sent = self._sender.send(batch, sizes)
            expected = self._receiver.expect(batch, sizes)
            key = (profile, sizes, sent.past_slot)
            self._runner.run(Call(key, profile, sent.shapes, sent.addresses | expected.addresses))
            result = self._receiver.fetch(batch, expected)
        except EngineError:
            raise
        except Exception as error:  # the libraries' own exceptions have no common base
            raise EngineError(f"the plan failed on {sizes.B} rows of {sizes.L} tokens ({error})") from error
        self._device.wait()
        return result

    def _check(self, trt: Any, engine: Any, plan: StepPlan) -> tuple[set[str], set[str]]:
        """Names of the plan's inputs, and of those that it reads on the host. Raises EngineError for a plan of another graph."""
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = {name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT}
        wanted = Sender.inputs_of(self._manifest, CONDITIONING in inputs) | Receiver.outputs_of(self._manifest)
        if wrong := sorted(wanted.symmetric_difference(names)):
            which = "lacks" if wrong[0] in wanted else "has an unknown tensor"
            raise EngineError(
                f"{plan.file} {which} {wrong[0]!r}", "Plan and manifest do not belong together: build it again with dlm-export engine"
            )
        on_host = {name for name in inputs if engine.get_tensor_location(name) == trt.TensorLocation.HOST}
        if large := sorted(on_host - Sender.small(CONDITIONING in inputs)):
            raise EngineError(f"{plan.file} reads {large[0]!r} on the host, which this engine does not do")
        return inputs, on_host
