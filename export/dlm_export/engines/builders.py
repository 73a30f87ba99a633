"""The libraries that build engines."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from dlm_runtime.bundle import EngineName

from .errors import EngineError


@dataclass(frozen=True)
class Builder:
    """One library: the module that is imported, and the extra of this package that brings it.

    `compute_capabilities` are those that can be asked for without being there, written as in "86"; a library that has none builds for the
    card in the machine. `note` is for whoever uses it.
    """

    name: EngineName
    title: str
    module: str
    compute_capabilities: tuple[str, ...] = ()
    note: str | None = None

    def check_installed(self) -> None:
        """Raise EngineError where the module is not there, without loading it."""
        if find_spec(self.module) is None:
            raise EngineError(
                f"{self.title} is not installed, which building an engine needs. Install the extra: pip install 'dlm-npc[{self.name}]', "
                "or write the graph alone with --graph-only"
            )


TENSORRT_RTX = Builder("tensorrt-rtx", "TensorRT for RTX", "tensorrt_rtx", ("75", "80", "86", "89", "120", "121"))
TENSORRT = Builder(
    "tensorrt",
    "TensorRT",
    "tensorrt",
    note="Building with full TensorRT was written against its documentation and has not been tried. It needs a GPU.",
)
BUILDERS: dict[EngineName, Builder] = {builder.name: builder for builder in (TENSORRT_RTX, TENSORRT)}
