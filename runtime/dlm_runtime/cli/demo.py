"""`dlm-demo`: a room full of characters answers a room full of players."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dlm_runtime.bundle import MANIFEST_NAME, Bundle
from dlm_runtime.client.aio import AsyncNpcClient
from dlm_runtime.client.errors import NpcError
from dlm_runtime.client.results import Mode
from dlm_runtime.client.sync import DEFAULT_TIMEOUT_S
from dlm_runtime.demo.crowd import Encounter, gather
from dlm_runtime.demo.host import server
from dlm_runtime.demo.report import ModeSummary, as_json, summarise
from dlm_runtime.demo.rounds import Spoken, all_at_once, one_by_one, watched
from dlm_runtime.demo.screen import MODE_NAMES, Room, summary_table
from dlm_runtime.dialogue.roster import Roster
from dlm_runtime.embedded import tavern_bundle, tavern_characters, tavern_players
from dlm_runtime.errors import DlmError
from dlm_runtime.policies import check_servable

MODES: tuple[Mode, ...] = ("diffusion", "self_speculation", "ar")
EXIT_FAILED = 2
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def _writable(file: Path | None) -> Path | None:
    """Find out now, not after minutes of work."""
    try:
        if file:
            file.open("a", encoding="utf-8").close()
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be written ({error.strerror}); name a file in a folder that exists") from error
    return file


@app.command()
def demo(
    npcs: Annotated[int, typer.Option(min=1, max=1024, help="How many players speak at once, each to a character.")] = 32,
    seed: Annotated[int, typer.Option(help="0 plays the authored questions; any other number draws who is asked what.")] = 0,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Diffusion settles every token it is at least this sure of.")] = 0.9,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often the crowd speaks in each mode; more makes steadier numbers.")] = 3,
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder. Default: the embedded tavern.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the server's engine. Default: the engine's choice.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="No live view: one line of text per answer. So also without a terminal.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", callback=_writable, help="Also write lines and measurements to this file.")
    ] = None,
) -> None:
    """Start a server on a free loopback port, let a crowd talk to its characters over gRPC, and measure it.

    Times are whole lines as the player waits for them, in milliseconds. Exit code 2: something failed; the message says what.
    """
    plain = plain or not Console().is_terminal
    console = Console(no_color=plain or None, soft_wrap=plain)
    try:
        folder = bundle or tavern_bundle()
        loaded = Bundle.load(folder)
        check_servable(loaded.manifest, loaded.path / MANIFEST_NAME)
        encounters = gather(Roster.load(tavern_characters()), tavern_players(), npcs, seed)
        arguments = ["--bundle", str(folder), "--max-waiting", str(max(256, npcs))]
        if threads:
            arguments += ["--threads", str(threads)]
        console.print(f"Starting dlm-serve with {loaded.manifest.name} ({loaded.manifest.precision}) ...")
        with server(arguments) as address:
            spoken, summary = asyncio.run(_play(console, address, encounters, threshold, rounds, plain))
    except (DlmError, NpcError) as error:
        Console(stderr=True).print(f"dlm-demo: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_FAILED) from None
    console.print(summary_table(summary, npcs))
    if json_file:
        json_file.write_text(json.dumps(as_json(loaded, spoken, summary), indent=2) + "\n", encoding="utf-8")
        console.print(f"Lines and measurements are in {json_file}")


async def _play(
    console: Console, address: str, encounters: Sequence[Encounter], threshold: float, rounds: int, plain: bool
) -> tuple[list[Spoken], dict[Mode, ModeSummary]]:
    """Show the crowd once, then measure every mode; returns the lines of each mode's first crowd and the summary."""
    spoken: list[Spoken] = []
    summary: dict[Mode, ModeSummary] = {}
    async with AsyncNpcClient(address, DEFAULT_TIMEOUT_S + len(encounters)) as client:  # the last of a crowd waits for all others
        if not plain:
            with Room(console, encounters) as room:
                await watched(client, encounters, threshold, room.show)
        for mode in MODES:
            with console.status(f"Measuring {MODE_NAMES[mode]} ..."):
                await all_at_once(client, encounters, mode, threshold)  # characters' cards enter the prefix cache, as they stay in a game
                singles = await one_by_one(client, encounters, mode, threshold)
                crowds = [await all_at_once(client, encounters, mode, threshold) for _ in range(rounds)]
            if plain and mode == "diffusion":
                for one in crowds[0].spoken:
                    console.print(f"{one.encounter.player_text} | {one.encounter.character_name}: {one.line.text}", markup=False)
            spoken += crowds[0].spoken
            summary[mode] = summarise(singles, crowds)
    return spoken, summary


if __name__ == "__main__":
    app()
