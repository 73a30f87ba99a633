"""Which plan of a bundle runs its steps, and reading it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlm_runtime.bundle import Bundle
from dlm_runtime.bundle.manifest import Plan
from dlm_runtime.engines.native.libraries import CPU_REMEDY, EXTRAS, Libraries
from dlm_runtime.errors import EngineError

_STAND_IN = "python"  # a plugin that computes nothing, for trying whether such an engine can be built


@dataclass(frozen=True)
class StepPlan:
    """The plan of a bundle's step graph. `module` is the Python module of the library that built it and has to run it."""

    file: Path
    plan: Plan
    module: str

    @staticmethod
    def of(bundle: Bundle) -> StepPlan:
        """The first one in the manifest. Raises EngineError when there is none, or none that can be run."""
        build = f"dlm-export engine {bundle.path}"
        for target in bundle.manifest.targets:
            for plan in target.plans:
                if plan.graph != target.file:
                    continue  # of the graph that runs a whole block
                module = plan.builder.split()[0] if plan.builder.strip() else ""
                if module not in EXTRAS:
                    raise EngineError(f"{plan.file} was built by {plan.builder!r}, which is unknown here", f"Build it again: {build}")
                if plan.plugin == _STAND_IN:
                    raise EngineError(
                        f"{plan.file} was built with --plugin python, a stand-in that computes nothing", f"Build it again without: {build}"
                    )
                return StepPlan(bundle.path / plan.file, plan, module)
        raise EngineError(
            f"{bundle.path} holds no TensorRT plan of its step graph",
            f"Build one: pip install 'dlm-npc[export,tensorrt-rtx]' && {build}. {CPU_REMEDY}",
        )

    def read(self, libraries: Libraries, logger: Any, errors: list[str], card: str) -> tuple[Any, Any]:
        """The library's runtime, which has to outlive the engine, and the engine. `card` is for the error.

        Raises EngineError when the library does not take the plan.
        """
        if self.plan.plugin is not None:
            libraries.load_plugin(self.plan.plugin)
        runtime = libraries.trt.Runtime(logger)
        engine = runtime.deserialize_cuda_engine(self.file.read_bytes())
        if engine is None:
            made_for = ", ".join(self.plan.compute_capabilities) or "the builder's usual cards"
            raise EngineError(
                f"{self.file} cannot be loaded by {libraries.trt.__name__} {libraries.trt.__version__}"
                f" ({errors[-1][:300] if errors else 'it gives no reason'}); it was built by {self.plan.builder} for {made_for}",
                f"This card is {card}. Build the plan again with this version of the library: dlm-export engine {self.file.parents[1]}",
            )
        if engine.num_optimization_profiles != len(self.plan.profiles):
            raise EngineError(
                f"{self.file} has {engine.num_optimization_profiles} profiles, the manifest lists {len(self.plan.profiles)}",
                f"Build it again: dlm-export engine {self.file.parents[1]}",
            )
        return runtime, engine
