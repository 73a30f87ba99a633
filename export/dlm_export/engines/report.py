"""The report of engines: engines/report.json in the bundle, and a table on the screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dlm_runtime.bundle import Plan

from .outcome import BuildOutcome


@dataclass(frozen=True)
class BuiltEngine:
    """One engine: its entry in the manifest, what came of building it, and the file that lists its layers."""

    plan: Plan
    outcome: BuildOutcome
    layers_file: str

    def to_json(self) -> dict[str, Any]:
        """Plain data. `refused` is empty, as an engine with refused nodes is not built; it is there for programs that read both."""
        return {
            **self.plan.model_dump(mode="json"),
            "plan_bytes": self.outcome.plan_bytes,
            "parse_s": round(self.outcome.parse_s, 3),
            "build_s": round(self.outcome.build_s, 3),
            "layers": len(self.outcome.layers),
            "layers_file": self.layers_file,
            "plugin_layers": list(self.outcome.plugins),
            "refused": [vars(node) for node in self.outcome.refused],
            "warnings": list(self.outcome.lines),
        }


@dataclass(frozen=True)
class EngineReport:
    """All engines of one run."""

    engines: tuple[BuiltEngine, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"engines": [engine.to_json() for engine in self.engines], "notes": list(self.notes)}
