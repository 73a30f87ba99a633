"""A server on a thread of its own, for programs that are not built around an event loop."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Self

from dlm_runtime.service.launch import Loader, ServerOptions, run_server
from dlm_runtime.service.server import Address
from dlm_runtime.service.speaker import Speaker


class BackgroundServer:
    """`with BackgroundServer(options) as server: NpcClient(str(server.address))`. Entering waits until the server answers calls."""

    def __init__(self, options: ServerOptions, load: Loader | None = None) -> None:
        self._options, self._load = options, load
        self._thread = threading.Thread(target=self._run, name="dlm-server", daemon=True)
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._error: BaseException | None = None
        self._serving: tuple[Address, Speaker] | None = None

    @property
    def address(self) -> Address:
        """Where the server listens, the free port filled in. Only inside the `with` block."""
        return self._served()[0]

    @property
    def speaker(self) -> Speaker:
        """What it serves. Only inside the `with` block."""
        return self._served()[1]

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _served(self) -> tuple[Address, Speaker]:
        if self._serving is None:
            raise RuntimeError("the server is not running: use it in a `with` block")
        return self._serving

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # handed to the thread that waits in __enter__
            self._error = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        await run_server(self._options, self._stop, self._on_serving, self._load)

    def _on_serving(self, address: Address, speaker: Speaker) -> None:
        self._serving = (address, speaker)
        self._ready.set()
