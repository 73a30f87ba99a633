"""What a check was run on."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

_PACKAGES = re.compile(
    r"dlm-npc|onnxruntime.*|tensorrt.*|cuda-(python|bindings)|nvidia-cuda-(runtime|nvcc).*|nvidia-cudnn.*|numpy|torch|triton.*",
    re.IGNORECASE,
)
_SMI_FIELDS = "name,compute_cap,memory.total,driver_version"
_SMI_PATIENCE_S = 20.0


@dataclass(frozen=True)
class Machine:
    """Names and versions. `gpus` are sentences, one per card; empty where none was found, `gpu_note` then says how it was looked for."""

    system: str
    python: str
    cpu: str
    cores: int
    gpus: tuple[str, ...]
    gpu_note: str
    packages: tuple[tuple[str, str], ...]

    @staticmethod
    def here() -> Machine:
        """This one."""
        gpus, note = _gpus()
        found = {name: each.version for each in distributions() if (name := each.metadata["Name"] or "") and _PACKAGES.fullmatch(name)}
        return Machine(
            system=platform.platform(),
            python=platform.python_version(),
            cpu=_cpu(),
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            gpus=gpus,
            gpu_note=note,
            packages=tuple(sorted(found.items(), key=lambda item: item[0].lower())),
        )


def _cpu() -> str:
    """The processor's name where the system tells it."""
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        names = re.findall(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _gpus() -> tuple[tuple[str, ...], str]:
    """NVIDIA cards as nvidia-smi tells them, else as CUDA does."""
    smi = shutil.which("nvidia-smi")
    if smi is not None:
        try:
            command = [smi, f"--query-gpu={_SMI_FIELDS}", "--format=csv,noheader"]
            told = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_PATIENCE_S, check=True).stdout
            if cards := tuple(_sentence(line) for line in told.splitlines() if line.strip()):
                return cards, ""
        except (OSError, subprocess.SubprocessError):
            pass  # CUDA may know more
    return _cuda_gpus()


def _sentence(line: str) -> str:
    name, capability, memory, driver = [*(part.strip() for part in line.split(",")), "?", "?", "?", "?"][:4]
    return f"{name}, compute capability {capability}, {memory}, driver {driver}"


def _cuda_gpus() -> tuple[tuple[str, ...], str]:
    try:
        cuda = importlib.import_module("cuda.bindings.runtime")
    except Exception:  # a broken installation raises whatever its loader does
        return (), "nvidia-smi finds no card, and cuda-python is not installed"
    code, count = cuda.cudaGetDeviceCount()
    if int(code):
        return (), f"nvidia-smi finds no card, and CUDA says: {cuda.cudaGetErrorString(code)[1].decode()}"
    version = cuda.cudaDriverGetVersion()[1]
    cards = []
    for number in range(count):
        card = cuda.cudaGetDeviceProperties(number)[1]
        memory = f"{card.totalGlobalMem / 2**20:.0f} MiB"
        cards.append(f"{card.name.decode()}, compute capability {card.major}.{card.minor}, {memory}, driver for CUDA {version // 1000}")
    return tuple(cards), "" if cards else "CUDA finds no card"
