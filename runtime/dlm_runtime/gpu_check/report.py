"""The report of a check, as Markdown to paste and as JSON to keep."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dlm_runtime.bundle import Manifest
from dlm_runtime.gpu_check.check import Check
from dlm_runtime.gpu_check.machine import Machine
from dlm_runtime.gpu_check.timings import Timing

_MARKS = {"passed": "passed", "failed": "**FAILED**", "skipped": "skipped"}


@dataclass(frozen=True)
class Report:
    """Everything that was found out. `seconds` is how long all of it took."""

    machine: Machine
    manifest: Manifest
    model_sha256: str
    prompts: str
    checks: tuple[Check, ...]
    timings: tuple[Timing, ...]
    seconds: float

    @property
    def failed(self) -> int:
        """How many checks failed."""
        return sum(check.state == "failed" for check in self.checks)

    @property
    def summary(self) -> str:
        """One line."""
        counts = {state: sum(check.state == state for check in self.checks) for state in _MARKS}
        return f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped in {self.seconds:.0f} s"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "format": 1,
            "machine": {**asdict(self.machine), "packages": dict(self.machine.packages)},
            "bundle": {**self.manifest.model_dump(include={"name", "family", "precision", "opset"}), "model_sha256": self.model_sha256},
            "prompts": self.prompts,
            "checks": [asdict(check) for check in self.checks],
            "timings": [{**asdict(timing), "shape": timing.shape._asdict()} for timing in self.timings],
            "seconds": self.seconds,
        }

    def to_markdown(self) -> str:
        """For an issue."""
        return "\n".join([f"## dlm-bench gpu-check: {self.summary}", "", *self._about(), *self._checks(), *self._timings()]) + "\n"

    def _about(self) -> list[str]:
        machine, manifest = self.machine, self.manifest
        cards = machine.gpus or (f"none ({machine.gpu_note})",)
        packages = ", ".join(f"{name} {version}" for name, version in machine.packages)
        return [
            "| | |",
            "|---|---|",
            *(f"| GPU | {cell(card)} |" for card in cards),
            f"| CPU | {cell(machine.cpu)}, {machine.cores} cores |",
            f"| system | {cell(machine.system)}, Python {machine.python} |",
            f"| packages | {cell(packages)} |",
            f"| bundle | {cell(manifest.name)}: {manifest.family}, {manifest.precision}, model.onnx {self.model_sha256[:12]} |",
            f"| lines | after {cell(self.prompts)} |",
        ]

    def _checks(self) -> list[str]:
        rows = [f"| {cell(one.group)} | {cell(one.name)} | {_MARKS[one.state]} | {cell(one.detail)} |" for one in self.checks]
        return ["", "| what | check | outcome | detail |", "|---|---|---|---|", *rows]

    def _timings(self) -> list[str]:
        if not self.timings:
            return []
        engines = list(dict.fromkeys(timing.engine for timing in self.timings))
        found = {(timing.engine, timing.shape): timing for timing in self.timings}
        base = engines[0]
        head = ["step", "rows", "tokens", "past", *(f"{name} ms" for name in engines), *(f"{base} / {name}" for name in engines[1:])]
        lines = ["", "Milliseconds of a step, median after warm-up.", "", f"| {' | '.join(head)} |", f"|---{'|---:' * (len(head) - 1)}|"]
        for shape in dict.fromkeys(timing.shape for timing in self.timings):
            times = [found.get((name, shape)) for name in engines]
            shown = ["" if one is None else f"{one.median_ms:.2f}" for one in times]
            first = times[0]
            ratios = ["" if one is None or first is None else f"{first.median_ms / one.median_ms:.1f}" for one in times[1:]]
            lines.append(f"| {' | '.join([shape.name, *map(str, shape[1:]), *shown, *ratios])} |")
        return lines


def cell(text: str) -> str:
    """Text that cannot end a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")
