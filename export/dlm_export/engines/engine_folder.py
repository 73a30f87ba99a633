"""Engines of a bundle's graphs, built into its folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from dlm_runtime.bundle import Manifest, Plan, PlanProfile, Target

from ..progress import Progress
from .engine_options import NO_PLUGIN, PYTHON_PLUGIN, EngineLimits, EngineOptions
from .errors import EngineError
from .job import BuildJob
from .outcome import BuildOutcome
from .process import run_build
from .profiles import Profile, block_profiles, step_profiles
from .report import BuiltEngine, EngineReport

FOLDER = "engines"
REPORT = f"{FOLDER}/report.json"
KERNEL_MULTIPLE = 8
Profiles = Callable[[EngineLimits], tuple[Profile, ...]]


@dataclass(frozen=True)
class EngineFolder:
    """The folder of a bundle that is being written; nobody else looks at it until it is whole."""

    path: Path
    manifest: Manifest
    target: Target
    options: EngineOptions
    progress: Progress

    def build(self) -> tuple[Target, EngineReport]:
        """Build all engines and write plans, layer lists and report. Raises EngineError or OptionError; the folder is then of no use."""
        limits = self.options.checked(self.manifest)
        self.options.builder.check_installed()
        shutil.rmtree(self.path / FOLDER, ignore_errors=True)
        (self.path / FOLDER).mkdir()
        graphs: list[tuple[str, Profiles]] = [(self.target.file, step_profiles)]
        if self.target.block_file:
            graphs.append((self.target.block_file, block_profiles))
        built = tuple(self._one(graph, profiles(limits)) for graph, profiles in graphs)
        report = EngineReport(built, self._notes(built))
        (self.path / REPORT).write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
        return self.target.model_copy(update={"plans": tuple(engine.plan for engine in built)}), report

    def _one(self, graph: str, profiles: tuple[Profile, ...]) -> BuiltEngine:
        builder, name = self.options.builder, Path(graph).stem
        self.progress.stage(f"building the engine of {graph} with {builder.title}")
        model = onnx.load(self.path / graph, load_external_data=False)
        plan, layers = f"{FOLDER}/{name}.plan", f"{FOLDER}/{name}.layers.txt"
        with TemporaryDirectory(prefix="dlm-engine-") as place:
            job = BuildJob(
                builder.module,
                str(self.path / graph),
                str(self.path / plan),
                str(Path(place) / "outcome.json"),
                tuple(profile.shapes(model) for profile in profiles),
                self.options.compute_capabilities,
                self.options.plugin if self.options.plugin in (NO_PLUGIN, PYTHON_PLUGIN) else str(Path(self.options.plugin).absolute()),
            )
            outcome = self._run(job, graph)
        lines = (f"{layer.kind}\t{layer.name}\n" for layer in outcome.layers)
        (self.path / layers).write_text("".join(lines), encoding="utf-8")
        recorded = tuple(profile.recorded(model) for profile in profiles)
        return BuiltEngine(self._plan(graph, plan, outcome, recorded), outcome, layers)

    def _run(self, job: BuildJob, graph: str) -> BuildOutcome:
        try:
            return run_build(job, self.options.timeout_s)
        except EngineError as error:
            remedies = " ".join(self._remedies(graph))
            raise EngineError(f"{error}. {remedies}" if remedies else str(error), error.refused) from error

    def _remedies(self, graph: str) -> Iterator[str]:
        """What may help where the builder fails, by what was tried with TensorRT for RTX 1.7.1."""
        if graph != self.target.file:
            yield f"The engine of {self.target.file} was built: leave out --loop to have it"
        sizes = sorted({self.manifest.cache_shape(layer)[1] for layer in range(self.manifest.layers)})
        odd = [size for size in sizes if size % KERNEL_MULTIPLE]
        if odd and self.manifest.cache_type != "float32":
            problem = f"Its heads have {odd[0]} numbers, and products in halves want a multiple of {KERNEL_MULTIPLE}"
            yield f"{problem}: --precision fp32 may build"

    def _plan(self, graph: str, file: str, outcome: BuildOutcome, profiles: tuple[PlanProfile, ...]) -> Plan:
        return Plan(
            graph=graph,
            file=file,
            builder=outcome.builder,
            compute_capabilities=self.options.compute_capabilities,
            profiles=profiles,
            plugin=Path(self.options.plugin).name if outcome.plugins else None,
        )

    def _notes(self, built: tuple[BuiltEngine, ...]) -> tuple[str, ...]:
        notes = [self.options.builder.note] if self.options.builder.note else []
        without = [engine.plan.file for engine in built if not engine.outcome.plugins]
        if self.options.plugin != NO_PLUGIN and without:
            notes.append(f"The parser took no plugin for {', '.join(without)}: it has none of the name dlm::ParallelUnmask, version 1.")
        if self.options.plugin == PYTHON_PLUGIN:
            notes.append("The plugin was a stand-in that computes nothing: the engines show that they can be built, and cannot be run.")
        return tuple(notes)
