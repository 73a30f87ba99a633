"""TensorRT plans for a check: built in a copy of the bundle, which itself stays as it is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from dlm_runtime.bundle import Bundle
from dlm_runtime.gpu_check.check import CheckFailed, Skipped

BUILDERS = {"tensorrt_rtx": "tensorrt-rtx", "tensorrt": "tensorrt"}
_PATIENCE_S = 3600.0
_COMMAND = "from dlm_export.cli import app; app()"


def build_plan(bundle: Bundle, place: Path, plugin: Path | None = None) -> tuple[Bundle, str]:
    """A copy of `bundle` in `place` with a plan, and a sentence on it.

    Raises Skipped where nothing can build it, CheckFailed where that fails.
    """
    if find_spec("onnx") is None or find_spec("torch") is None:
        raise Skipped("building a plan takes the exporter: pip install 'dlm-npc[export,tensorrt-rtx]'")
    target = next((name for module, name in BUILDERS.items() if find_spec(module) is not None), None)
    if target is None:
        raise Skipped("neither tensorrt-rtx nor tensorrt is installed: pip install 'dlm-npc[tensorrt-rtx]'")
    shutil.copytree(bundle.path, place)
    options = ["engine", str(place), "--target", target, *(["--plugin", str(plugin)] if plugin else [])]
    done = subprocess.run([sys.executable, "-c", _COMMAND, *options], capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    if done.returncode:
        raise CheckFailed(f"dlm-export engine ends with code {done.returncode}: {(done.stderr or done.stdout)[-1500:]}")
    built = Bundle.load(place)
    plan = next(plan for one in built.manifest.targets for plan in one.plans)
    megabytes = (place / plan.file).stat().st_size / 1e6
    return built, f"{megabytes:.0f} MB by {plan.builder}{f', with the plugin {plan.plugin}' if plan.plugin else ', of standard operators'}"
