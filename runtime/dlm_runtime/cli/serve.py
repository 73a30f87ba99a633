"""`dlm-serve`: serve a bundle and a folder of characters over gRPC."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from dlm_runtime.cli.logs import set_up_logs
from dlm_runtime.embedded import tavern_bundle, tavern_characters
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
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the engine. Default: the engine's choice.")] = None,
    max_rows: Annotated[int, typer.Option(min=1, help="Lines written at the same time.")] = 64,
    max_waiting: Annotated[int, typer.Option(min=1, help="Lines that may wait; one more is told to come back later.")] = 256,
    drain_s: Annotated[float, typer.Option(min=0, help="On SIGINT or SIGTERM, seconds that running lines get to finish.")] = 10.0,
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
            threads=threads,
            max_rows=max_rows,
            max_waiting=max_waiting,
            drain_s=drain_s,
        )
        asyncio.run(_serve_until_signal(options, json_logs))
    except DlmError as error:
        Console(stderr=True).print(f"dlm-serve: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_CANNOT_SERVE) from None


async def _serve_until_signal(options: ServerOptions, as_json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before[signal.Signals(number)])  # a second one does not wait for the drain
        loop.call_soon_threadsafe(stop.set)

    for number in before:
        signal.signal(number, on_signal)
    try:
        await run_server(options, stop, _Announcer(as_json))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
