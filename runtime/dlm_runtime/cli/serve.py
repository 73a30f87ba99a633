"""`dlm-serve`: serve a bundle and a folder of characters over gRPC."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from dlm_runtime.cli.logs import set_up_logs
from dlm_runtime.embedded import tavern_bundle, tavern_characters
from dlm_runtime.engines.choose import EngineChoice
from dlm_runtime.engines.installation import onnxruntime_conflict
from dlm_runtime.errors import DlmError
from dlm_runtime.service.launch import ServerOptions, run_server
from dlm_runtime.service.server import Address
from dlm_runtime.service.speaker import Speaker

EXIT_CANNOT_SERVE = 2
_log = logging.getLogger(__name__)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def serve(
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder written by dlm-export. Default: the embedded tavern.")] = None,
    characters: Annotated[Path | None, typer.Option(help="Folder of character YAML files. Default: the tavern's.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on. Other machines reach the server only if you change this.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one and prints it.")] = 50051,
    engine: Annotated[
        EngineChoice,
        typer.Option(help="cpu, a GPU provider of ONNX Runtime, native (a TensorRT plan in the bundle), or auto, which says what it took."),
    ] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the engine. Default: the engine's choice.")] = None,
    max_rows: Annotated[int, typer.Option(min=1, help="Lines written at the same time.")] = 64,
    max_waiting: Annotated[int, typer.Option(min=1, help="Lines that may wait; one more is told to come back later.")] = 256,
    drain_s: Annotated[float, typer.Option(min=0, help="On SIGINT or SIGTERM, seconds that running lines get to finish.")] = 10.0,
    until_stdin_closes: Annotated[
        bool, typer.Option("--until-stdin-closes", help="Also stop when standard input closes, as when the program that holds it ends.")
    ] = False,
    json_logs: Annotated[bool, typer.Option("--json-logs", help="Write logs and the line `listening on` as JSON.")] = False,
) -> None:
    """Let characters speak over gRPC until SIGINT or SIGTERM. Exit code 2: the server could not start."""
    set_up_logs(json_logs)
    if conflict := onnxruntime_conflict():
        _log.warning(conflict)
    try:
        options = ServerOptions(
            bundle=bundle or tavern_bundle(),
            characters=characters or tavern_characters(),
            address=Address(host, port),
            engine=engine,
            threads=threads,
            max_rows=max_rows,
            max_waiting=max_waiting,
            drain_s=drain_s,
        )
        asyncio.run(_serve_until_told(options, json_logs, until_stdin_closes))
    except DlmError as error:
        Console(stderr=True).print(f"dlm-serve: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_CANNOT_SERVE) from None


async def _serve_until_told(options: ServerOptions, as_json: bool, until_stdin_closes: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before[signal.Signals(number)])  # a second one does not wait for the drain
        loop.call_soon_threadsafe(stop.set)

    for number in before:
        signal.signal(number, on_signal)
    if until_stdin_closes:
        threading.Thread(target=_watch_stdin, args=(loop, stop), name="dlm-stdin", daemon=True).start()
    try:
        await run_server(options, stop, _Announcer(as_json))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Sets `stop` at the end of standard input. Reads the descriptor itself: `sys.stdin` would be locked when the interpreter ends."""
    with suppress(OSError):  # there is no standard input
        while os.read(0, 4096):
            continue
    with suppress(RuntimeError):  # the loop is closed, so all is over already
        loop.call_soon_threadsafe(stop.set)


@dataclass(frozen=True)
class _Announcer:
    """Prints the one line that says where the server listens."""

    as_json: bool

    def __call__(self, address: Address, speaker: Speaker) -> None:
        name, count, modes = speaker.manifest.name, len(speaker.roster), list(speaker.manifest.modes)
        if self.as_json:
            entry = {"event": "listening", "host": address.host, "port": address.port, "bundle": name, "characters": count, "modes": modes}
            print(json.dumps(entry), flush=True)
        else:
            print(f"listening on {address} (bundle {name}, {count} characters, modes {', '.join(modes)})", flush=True)


def main() -> None:
    """Entry point of `dlm-serve`."""
    app()


if __name__ == "__main__":
    main()
