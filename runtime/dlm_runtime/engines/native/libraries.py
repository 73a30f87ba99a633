"""TensorRT and CUDA, imported when an engine is opened and not before: few machines have them."""

from __future__ import annotations

import importlib
import logging
import os
from dataclasses import dataclass
from typing import Any

from dlm_runtime.errors import EngineError

CPU_REMEDY = "--engine cpu runs anywhere, --engine auto takes the best there is"
PLUGIN_VARIABLE = "DLM_UNMASK_PLUGIN"
EXTRAS = {"tensorrt_rtx": "tensorrt-rtx", "tensorrt": "tensorrt"}
_log = logging.getLogger(__name__)
_loaded_plugins: set[str] = set()  # they stay in the library's registry as long as the process lives


@dataclass(frozen=True)
class Libraries:
    """`trt` is tensorrt_rtx or tensorrt, `cuda` is cuda.bindings.runtime. Their own types are unknown to type checkers."""

    trt: Any
    cuda: Any

    @staticmethod
    def load(module: str) -> Libraries:
        """Raises EngineError naming the package that is missing and how to get it."""
        remedy = f"Install it: pip install 'dlm-npc[{EXTRAS.get(module, module)}]'. {CPU_REMEDY}"
        try:
            trt = importlib.import_module(module)
        except Exception as error:  # a broken installation raises whatever its loader does
            raise EngineError(f"engine native cannot be used: the package {module} cannot be imported ({error})", remedy) from error
        try:
            cuda = importlib.import_module("cuda.bindings.runtime")
        except Exception as error:  # as above
            raise EngineError(f"engine native cannot be used: the package cuda-python cannot be imported ({error})", remedy) from error
        return Libraries(trt, cuda)

    def logger(self) -> tuple[Any, list[str]]:
        """A logger for the library, and the list in which its errors appear. Warnings and errors go to this program's log as well."""
        trt, errors = self.trt, list[str]()

        class Listening(trt.ILogger):
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                """Called by the library, possibly from its own threads."""
                if int(severity) <= int(trt.ILogger.ERROR):
                    errors.append(" ".join(message.split()))
                    _log.error("TensorRT: %s", errors[-1])
                elif int(severity) <= int(trt.ILogger.WARNING):
                    _log.warning("TensorRT: %s", " ".join(message.split()))

        return Listening(), errors

    def load_plugin(self, name: str) -> None:
        """Loads the plugin library that a plan was built with. Raises EngineError when none is named, or it cannot be loaded."""
        path = os.environ.get(PLUGIN_VARIABLE, "")
        if not path:
            raise EngineError(
                f"the plan was built with the plugin {name} and cannot run without it",
                f"Set {PLUGIN_VARIABLE} to the library's path (kernels/cuda/README.md says how to build it), or build the plan again "
                "without --plugin",
            )
        if path not in _loaded_plugins:
            if self.trt.get_plugin_registry().load_library(path) is None:
                raise EngineError(
                    f"{PLUGIN_VARIABLE}={path} cannot be loaded as a plugin library", "Give the library that was used for the build"
                )
            _loaded_plugins.add(path)
