"""Every check, in order: the harness itself, each engine, each kernel, timings."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from dlm_runtime.bundle import MANIFEST_NAME, Bundle
from dlm_runtime.engines import OnnxEngine
from dlm_runtime.engines.base import Engine, StepBatch, StepResult
from dlm_runtime.engines.choose import EngineChoice, open_engine
from dlm_runtime.engines.native.libraries import PLUGIN_VARIABLE
from dlm_runtime.errors import DlmError, EngineError
from dlm_runtime.gpu_check.batches import KINDS
from dlm_runtime.gpu_check.check import CheckFailed, Checks, Skipped
from dlm_runtime.gpu_check.kernels import cuda_core, triton, write_vectors
from dlm_runtime.gpu_check.lines import Lines, Script, usable_modes
from dlm_runtime.gpu_check.machine import Machine
from dlm_runtime.gpu_check.parity import check_step
from dlm_runtime.gpu_check.plans import build_plan
from dlm_runtime.gpu_check.report import Report
from dlm_runtime.gpu_check.timings import Timing, shapes, time_shape
from dlm_runtime.policies import check_servable

ENGINES: tuple[EngineChoice, ...] = ("cpu", "cuda", "tensorrt-rtx", "directml", "webgpu", "native")
HARNESS = "this program"


@dataclass(frozen=True)
class Options:
    """What to check. An engine in `required` that does not load is a failed check; of others it is a skipped one."""

    bundle: Bundle
    required: tuple[EngineChoice, ...] = ()
    build: bool = False
    plugin: Path | None = None
    lines: int = 8
    most_rows: int = 32
    repeats: int = 20
    threads: int | None = None

    @property
    def engines(self) -> tuple[EngineChoice, ...]:
        """Those to check, in the order of the report."""
        return tuple(name for name in ENGINES if name in self.required) if self.required else ENGINES


class GpuCheck:
    """One run. The reference is ONNX Runtime on the CPU."""

    def __init__(self, options: Options, checks: Checks) -> None:
        """Raises DlmError when the bundle cannot be run on the CPU either."""
        self._options = options
        self._checks = checks
        self._machine = Machine.here()
        self._bundle = options.bundle
        self._reference = OnnxEngine(options.bundle, options.threads)
        self._script = Script.of(options.bundle, options.lines)
        self._lines = Lines(self._reference, self._script)
        self._timings: list[Timing] = []

    def run(self) -> Report:
        """All checks. Never raises for what they find."""
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="dlm-gpu-check-") as place:
            self._check_harness()
            if "cpu" not in self._options.engines:
                self._time(self._reference, "cpu")  # what the others are compared with
            for name in self._options.engines:
                if name == "native":
                    self._native(Path(place))
                else:
                    self._engine(name, self._bundle, name)
            self._kernels(Path(place))
        self._reference.close()
        manifest = self._bundle.manifest
        digest = manifest.files.get(manifest.targets[0].file, "")
        seconds = time.perf_counter() - began
        return Report(self._machine, manifest, digest, self._script.source, tuple(self._checks.done), tuple(self._timings), seconds)

    def _check_harness(self) -> None:
        def notices() -> str:
            for kind in KINDS:
                for wrong in (_Wrong(self._reference, "logits"), _Wrong(self._reference, "sampled_ids")):
                    try:
                        check_step(kind, wrong, self._reference)
                    except CheckFailed:
                        continue
                    raise CheckFailed(f"wrong {wrong.what} of a {kind} step were not noticed")
            return "an engine with one wrong logit or one wrong word per step is noticed in every kind of step"

        self._checks.run(HARNESS, "notices errors", notices)

    def _engine(self, name: EngineChoice, bundle: Bundle, group: str) -> None:
        """Everything about one engine."""
        with self._opened(name, bundle, group) as engine:
            if engine is None:
                return
            if isinstance(engine, OnnxEngine) and name != "cpu":
                self._checks.run(group, "operators on the device", lambda: _placement(engine))
            for kind in KINDS:
                self._checks.run(group, f"step: {kind}", lambda kind=kind: check_step(kind, engine, self._reference))
            self._check_lines(engine, group)
            self._time(engine, group)

    @contextmanager
    def _opened(self, name: EngineChoice, bundle: Bundle, group: str) -> Iterator[Engine | None]:
        opened: list[Engine] = []

        def load() -> str:
            began = time.perf_counter()
            try:
                opened.append(open_engine(bundle, name, self._options.threads).engine)
            except EngineError as error:
                if name in self._options.required:
                    raise
                raise Skipped(str(error)) from error
            return f"in {time.perf_counter() - began:.1f} s{_details(opened[0])}"

        self._checks.run(group, "loads", load)
        try:
            yield opened[0] if opened else None
        finally:
            if opened:
                opened[0].close()

    def _check_lines(self, engine: Engine, group: str) -> None:
        manifest = self._bundle.manifest
        try:
            check_servable(manifest, self._bundle.path / MANIFEST_NAME)
        except DlmError as error:
            self._checks.skip(group, "lines", str(error))
            return
        modes = usable_modes(manifest)
        for mode in modes:
            self._checks.run(group, f"lines: {mode}", lambda mode=mode: self._lines.as_on_the_cpu(engine, mode))
        if {"self_speculation", "ar"} <= {*modes}:
            self._checks.run(group, "lines: speculation = ar", lambda: self._lines.speculation_as_autoregression(engine))
        self._checks.run(group, "lines: twice", lambda: self._lines.twice(engine, modes[0]))
        self._checks.run(group, "lines: alone and in company", lambda: self._lines.alone_and_in_company(engine, modes[0]))

    def _time(self, engine: Engine, group: str) -> None:
        def measure() -> str:
            for shape in shapes(self._bundle.manifest, self._options.most_rows):
                self._timings.append(time_shape(group, engine, shape, self._options.repeats))
            return f"medians of up to {self._options.repeats} runs, see below{_details(engine)}"

        self._checks.run(group, "timings", measure)

    def _native(self, place: Path) -> None:
        """The bundle's own plan, and with `build` new ones, without and with the plugin."""
        if not self._options.build:
            self._engine("native", self._bundle, "native")
            return
        variants: list[tuple[str, Path | None]] = [("native", None)]
        if self._options.plugin is not None:
            variants.append(("native, plugin", self._options.plugin))
        for number, (group, plugin) in enumerate(variants):
            built: list[Bundle] = []

            def build(plugin: Path | None = plugin, number: int = number, built: list[Bundle] = built) -> str:
                bundle, sentence = build_plan(self._bundle, place / f"plan{number}", plugin)
                built.append(bundle)
                return sentence

            if self._checks.run(group, "builds", build):
                with _plugin_named(plugin):
                    self._engine("native", built[0], group)

    def _kernels(self, place: Path) -> None:
        folder = place / "vectors"
        folder.mkdir()
        vectors: list[Path] = []

        def write() -> str:
            vectors.extend(write_vectors(folder))
            return f"{len(vectors)} cases"

        if self._checks.run("unmask kernels", "test vectors", write):
            has_card = bool(self._machine.gpus)
            self._checks.run("unmask kernels", "Triton = numpy", lambda: triton(vectors))
            self._checks.run("unmask kernels", "CUDA = numpy", lambda: cuda_core(vectors, place, has_card))
        if self._options.plugin is None or not self._options.build:
            self._checks.skip("unmask kernels", "TensorRT plugin = function", "give --build and --plugin LIBRARY to build a plan with it")


@contextmanager
def _plugin_named(plugin: Path | None) -> Iterator[None]:
    """Tells the native engine where the plugin's library lies."""
    before = os.environ.get(PLUGIN_VARIABLE)
    if plugin is not None:
        os.environ[PLUGIN_VARIABLE] = str(plugin)
    try:
        yield
    finally:
        os.environ.pop(PLUGIN_VARIABLE, None)
        if before is not None:
            os.environ[PLUGIN_VARIABLE] = before


class _Wrong:
    """An engine whose `what` is off by a little in one place of every step."""

    def __init__(self, engine: Engine, what: str) -> None:
        self._engine, self.what = engine, what
        self.manifest = engine.manifest

    def step(self, batch: StepBatch) -> StepResult:
        result = self._engine.step(batch)
        array = getattr(result, self.what).copy()
        if self.what == "logits":
            array[0, 0, 7] += 1 + abs(array[0, 0]).max() / 2
        else:
            array[0, 0] = int(array[0, 0]) % (self.manifest.vocab_size - 1) + 1
        return replace(result, **{self.what: array})

    def close(self) -> None:
        """Nothing of its own."""


def _placement(engine: OnnxEngine) -> str:
    """Where ONNX Runtime put the operators."""
    counts = engine.nodes()
    if not counts:
        raise Skipped("this ONNX Runtime does not tell")
    told = ", ".join(f"{count} on {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))
    if engine.provider.registered_name not in counts:
        raise CheckFailed(f"none runs on {engine.provider.registered_name}: {told}")
    return told


def _details(engine: Engine) -> str:
    """What a native engine has to say of itself."""
    card, graphs = getattr(engine, "card", None), getattr(engine, "graphs", None)
    return "" if card is None else f"; on {card}, CUDA graphs {graphs}"
