"""A CUDA device: the few calls that are used, each of which raises EngineError when it fails."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from dlm_runtime.engines.native.libraries import CPU_REMEDY
from dlm_runtime.errors import EngineError


class Device:
    """The first card, and one stream on it; `cuda` is cuda.bindings.runtime. Sizes are in bytes, addresses are integers.

    Raises EngineError when there is no driver or no card.
    """

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        try:
            count = self._call("cudaGetDeviceCount")
        except EngineError as error:
            raise EngineError(
                f"engine native cannot be used: {error.problem}", f"Install a driver for CUDA 13 from NVIDIA. {CPU_REMEDY}"
            ) from error
        if not count:
            raise EngineError("engine native cannot be used: CUDA finds no NVIDIA card in this machine", CPU_REMEDY)
        self._call("cudaSetDevice", 0)
        properties = self._call("cudaGetDeviceProperties", 0)
        name = properties.name
        self.name: str = name.decode() if isinstance(name, bytes) else str(name)
        self.capability = f"{properties.major}{properties.minor}"
        self._stream = self._call("cudaStreamCreate")

    @property
    def stream(self) -> int:
        """The stream's handle, as TensorRT takes it."""
        return int(self._stream)

    def use(self) -> None:
        """Makes the card current for the calling thread."""
        self._call("cudaSetDevice", 0)

    def allocate(self, size: int) -> int:
        """Device memory."""
        return int(self._call("cudaMalloc", size))

    def free(self, address: int) -> None:
        """Device memory back."""
        self._call("cudaFree", address)

    def allocate_host(self, size: int) -> int:
        """Memory of the host that copies reach directly."""
        return int(self._call("cudaMallocHost", size))

    def free_host(self, address: int) -> None:
        """Host memory back."""
        self._call("cudaFreeHost", address)

    def send(self, device: int, host: int, size: int) -> None:
        """Host to device, in the stream's order."""
        self._copy(device, host, size, self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice)

    def fetch(self, host: int, device: int, size: int) -> None:
        """Device to host, in the stream's order: there once `wait` returns."""
        self._copy(host, device, size, self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost)

    def wait(self) -> None:
        """Until all that was asked for is done."""
        self._call("cudaStreamSynchronize", self._stream)

    def begin_capture(self) -> None:
        """From here on the stream records instead of running."""
        self._call("cudaStreamBeginCapture", self._stream, self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)

    def end_capture(self) -> Any:
        """What was recorded, ready to be launched. The stream runs again, whether this raises or not."""
        graph = self._call("cudaStreamEndCapture", self._stream)
        try:
            return self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    def abandon_capture(self) -> None:
        """Ends a recording that went wrong."""
        with suppress(EngineError):
            self._call("cudaGraphDestroy", self._call("cudaStreamEndCapture", self._stream))
        with suppress(EngineError):  # a failed capture leaves its error behind for the next call to trip over
            self._call("cudaGetLastError")

    def launch(self, graph: Any) -> None:
        """Runs what was recorded."""
        self._call("cudaGraphLaunch", graph, self._stream)

    def free_graph(self, graph: Any) -> None:
        """A recording back."""
        self._call("cudaGraphExecDestroy", graph)

    def close(self) -> None:
        """Ends the stream."""
        self._call("cudaStreamDestroy", self._stream)

    def _copy(self, to: int, source: int, size: int, kind: Any) -> None:
        if size:
            self._call("cudaMemcpyAsync", to, source, size, kind, self._stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        code, *values = getattr(self._cuda, name)(*arguments)
        if int(code):
            said = self._cuda.cudaGetErrorString(code)[-1]
            raise EngineError(f"{name} failed ({said.decode() if isinstance(said, bytes) else said}, CUDA error {int(code)})")
        return values[0] if values else None
