"""What pip cannot see: two distributions that install the same `onnxruntime` folder over each other."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

_VARIANTS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")


def onnxruntime_conflict() -> str | None:
    """A sentence that names the conflict and the remedy when more than one variant of ONNX Runtime is installed, else None."""
    found = [f"{name} {found}" for name in _VARIANTS if (found := _version(name))]
    if len(found) < 2:
        return None
    keep = found[-1].split()[0]
    return (
        f"{' and '.join(found)} are both installed and overwrite each other's files, so it is chance which one runs. "
        f"Keep one: pip uninstall -y {' '.join(one.split()[0] for one in found)} && pip install {keep}"
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
