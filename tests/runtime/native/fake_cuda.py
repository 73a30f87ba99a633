"""A stand-in for cuda.bindings.runtime whose device memory is memory of this process, and which does nothing before it is waited for.

It keeps a log of calls and refuses what a real device would not take: copies beyond an allocation or in the wrong direction, allocations
during a capture, memory freed twice.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

SUCCESS, BAD_VALUE, NO_DRIVER, NOT_PERMITTED = 0, 1, 35, 900
TEXTS = {SUCCESS: b"no error", BAD_VALUE: b"invalid argument", NO_DRIVER: b"CUDA driver version is insufficient for CUDA runtime version"}


class FakeCuda:
    """`log` holds (function, arguments); `failing` gives functions an error code to return instead of working."""

    def __init__(self) -> None:
        self.__name__ = "cuda.bindings.runtime"
        self.cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
        self.cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
        self.log: list[tuple[Any, ...]] = []
        self.failing: dict[str, int] = {}
        self.device: dict[int, np.ndarray] = {}
        self.host: dict[int, np.ndarray] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.pending: list[Callable[[], None]] = []
        self.recording: list[Callable[[], None]] | None = None
        self.devices = 1

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if not name.startswith("cuda") or not callable(value):
            return value

        def called(*arguments: Any) -> tuple[Any, ...]:
            self.log.append((name, *arguments))
            if name in self.failing and name != "cudaGetErrorString":
                if name == "cudaStreamEndCapture":
                    self.recording = None  # the real one ends the recording even when it reports an error
                return (self.failing[name], None)
            return value(*arguments)

        return called

    def calls(self, name: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.log if call[0] == name]

    def put(self, work: Callable[[], None]) -> None:
        """Into the stream, or into what is being recorded."""
        (self.pending if self.recording is None else self.recording).append(work)

    def room(self, address: int, size: int, memory: dict[int, np.ndarray]) -> bool:
        """Whether `size` bytes at `address` belong to one allocation."""
        return any(start <= address and address + size <= start + len(block) for start, block in memory.items())

    def cudaGetDeviceCount(self) -> tuple[int, int]:
        return SUCCESS, self.devices

    def cudaSetDevice(self, number: int) -> tuple[int]:
        return (SUCCESS,)

    def cudaGetDeviceProperties(self, number: int) -> tuple[int, Any]:
        return SUCCESS, SimpleNamespace(name=b"Pretend RTX", major=8, minor=9, totalGlobalMem=16376 * 2**20)

    def cudaDriverGetVersion(self) -> tuple[int, int]:
        return SUCCESS, 13000

    def cudaGetErrorString(self, code: int) -> tuple[int, bytes]:
        return SUCCESS, TEXTS.get(code, b"an error")

    def cudaGetLastError(self) -> tuple[int]:
        return (SUCCESS,)

    def cudaStreamCreate(self) -> tuple[int, int]:
        return SUCCESS, 77

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:
        return (SUCCESS,)

    def cudaMalloc(self, size: int) -> tuple[int, int]:
        return self._allocate(size, self.device)

    def cudaMallocHost(self, size: int) -> tuple[int, int]:
        return self._allocate(size, self.host)

    def cudaFree(self, address: int) -> tuple[int]:
        self._run()  # as the real one, which waits for the device
        del self.device[address]
        return (SUCCESS,)

    def cudaFreeHost(self, address: int) -> tuple[int]:
        self._run()
        del self.host[address]
        return (SUCCESS,)

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:
        assert stream == 77
        on_device = to if kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice else source
        on_host = source if kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice else to
        if not self.room(on_device, size, self.device) or self.room(on_host, 1, self.device):
            return (BAD_VALUE,)
        self.put(lambda: ctypes.memmove(to, source, size))
        return (SUCCESS,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        if self.recording is not None:
            return (NOT_PERMITTED,)
        self._run()
        return (SUCCESS,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:
        self.recording = []
        return (SUCCESS,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, Any]:
        if self.recording is None:
            return NOT_PERMITTED, None
        recorded, self.recording = self.recording, None
        return SUCCESS, recorded

    def cudaGraphInstantiate(self, graph: list[Callable[[], None]], flags: int) -> tuple[int, int]:
        number = 1000 + len(self.log)
        self.graphs[number] = graph
        return SUCCESS, number

    def cudaGraphDestroy(self, graph: list[Callable[[], None]]) -> tuple[int]:
        return (SUCCESS,)

    def cudaGraphLaunch(self, number: int, stream: int) -> tuple[int]:
        if number not in self.graphs:
            return (BAD_VALUE,)
        self.pending += self.graphs[number]
        return (SUCCESS,)

    def cudaGraphExecDestroy(self, number: int) -> tuple[int]:
        del self.graphs[number]
        return (SUCCESS,)

    def _allocate(self, size: int, memory: dict[int, np.ndarray]) -> tuple[int, Any]:
        if self.recording is not None:
            return NOT_PERMITTED, None
        raw = np.full(size + 256, 0xAB, np.uint8)  # what lies in fresh memory is nobody's business, so nothing may come of it
        start = -raw.ctypes.data % 256
        block = raw[start : start + size]
        memory[block.ctypes.data] = block
        return SUCCESS, block.ctypes.data

    def _run(self) -> None:
        pending, self.pending = self.pending, []
        for work in pending:
            work()
