"""What the process that builds an engine is told, as one JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

Shapes = Mapping[str, list[list[int]]]  # by input: the smallest, the usual and the largest


@dataclass(frozen=True)
class BuildJob:
    """Build `model` with the library `module`, write the engine to `plan` and the BuildOutcome, as JSON, to `outcome`."""

    module: str
    model: str
    plan: str
    outcome: str
    profiles: tuple[Shapes, ...]
    compute_capabilities: tuple[str, ...] = ()
    plugin: str = "none"

    def write(self, file: Path) -> None:
        """Write the job."""
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def read(file: Path) -> BuildJob:
        """The job that `write` wrote."""
        fields = json.loads(file.read_text(encoding="utf-8"))
        return BuildJob(**{**fields, "profiles": tuple(fields["profiles"]), "compute_capabilities": tuple(fields["compute_capabilities"])})
