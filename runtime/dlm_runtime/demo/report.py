"""What the demonstration measured, as numbers for a table and for a JSON file."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from dlm_runtime.bundle import Bundle
from dlm_runtime.client.results import Mode
from dlm_runtime.demo.rounds import Round, Spoken


@dataclass(frozen=True)
class ModeSummary:
    """Whole-line latencies in milliseconds, for one player alone and for everybody at once; lines a second are those of the crowd."""

    single_p50_ms: float
    single_p95_ms: float
    crowd_p50_ms: float
    crowd_p95_ms: float
    lines_per_s: float
    tokens_per_forward: float


def summarise(singles: Round, crowds: list[Round]) -> ModeSummary:
    """Percentiles over single lines and over all crowd rounds; tokens per forward counts every pass, prompt and commit passes included."""
    single = [spoken.latency_ms for spoken in singles.spoken]
    crowd = [spoken.latency_ms for one in crowds for spoken in one.spoken]
    lines = [spoken.line for one in crowds for spoken in one.spoken]
    return ModeSummary(
        single_p50_ms=_percentile(single, 50),
        single_p95_ms=_percentile(single, 95),
        crowd_p50_ms=_percentile(crowd, 50),
        crowd_p95_ms=_percentile(crowd, 95),
        lines_per_s=round(len(lines) / sum(one.wall_s for one in crowds), 2),
        tokens_per_forward=round(sum(line.tokens for line in lines) / sum(line.forwards for line in lines), 2),
    )


def as_json(bundle: Bundle, spoken: list[Spoken], summary: dict[Mode, ModeSummary]) -> dict[str, Any]:
    """The document that `--json` writes."""
    manifest = bundle.manifest
    described = {"name": manifest.name, "family": manifest.family, "precision": manifest.precision, "block_length": manifest.block_length}
    size = sum((bundle.path / name).stat().st_size for name in manifest.files)
    return {
        "machine": machine(),
        "bundle": described | {"model_sha256": manifest.files[manifest.targets[0].file], "size_bytes": size},
        "lines": [_line(one) for one in spoken],
        "summary": {mode: asdict(values) for mode, values in summary.items()},
    }


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
        "dlm_npc": version("dlm-npc"),
    }


def _line(spoken: Spoken) -> dict[str, Any]:
    return {
        "character": spoken.encounter.character_id,
        "player": spoken.encounter.player_text,
        "text": spoken.line.text,
        "mode": spoken.line.mode,
        "latency_ms": round(spoken.latency_ms, 2),
        "tokens": spoken.line.tokens,
        "forwards": spoken.line.forwards,
    }


def _percentile(values: list[float], percent: float) -> float:
    return round(float(np.percentile(values, percent)), 2)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
