"""Which engine runs a bundle: the one that was asked for, or the best that this machine has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from dlm_runtime.bundle import Bundle
from dlm_runtime.engines.base import Engine
from dlm_runtime.engines.onnx_engine import OnnxEngine
from dlm_runtime.engines.provider import PROVIDERS, ProviderName
from dlm_runtime.errors import EngineError

EngineChoice = Literal["auto", "native", ProviderName]
ENGINE_CHOICES: tuple[str, ...] = ("auto", "native", *get_args(ProviderName))

# Fastest first, as their makers say; see docs/gpu.md for what has been measured.
_PREFERENCE: tuple[EngineChoice, ...] = ("native", "tensorrt-rtx", "cuda", "directml", "webgpu", "cpu")


@dataclass(frozen=True)
class Chosen:
    """An engine that has loaded its model, its name, and a sentence for the log on how it came to be chosen."""

    engine: Engine
    name: str
    why: str


def open_engine(bundle: Bundle, choice: EngineChoice = "cpu", threads: int | None = None) -> Chosen:
    """Loads a bundle with the engine of that name; `auto` goes through them, fastest first, and takes the first that loads.

    Raises EngineError when the engine that was asked for cannot be loaded: no other one takes its place unasked.
    """
    if choice != "auto":
        return Chosen(_open(bundle, choice, threads), choice, f"engine {choice}, as asked for")
    refusals: list[str] = []
    for name in _PREFERENCE:
        try:
            engine = _open(bundle, name, threads)
        except EngineError as error:
            refusals.append(f"{name}: {error.problem}")
            continue
        rest = f"; not {'; not '.join(refusals)}" if refusals else ""
        return Chosen(engine, name, f"engine {name}, the first of {', '.join(_PREFERENCE)} that loads{rest}")
    raise EngineError(f"no engine can load {bundle.path} ({'; '.join(refusals)})")


def _open(bundle: Bundle, name: EngineChoice, threads: int | None) -> Engine:
    if name == "native":
        from dlm_runtime.engines.native import NativeEngine  # needs cuda-python and TensorRT, which few have

        return NativeEngine(bundle)
    if name not in PROVIDERS:
        raise EngineError(f"engine={name!r} is unknown", f"Known are {', '.join(ENGINE_CHOICES)}")
    return OnnxEngine(bundle, threads, PROVIDERS[name])
