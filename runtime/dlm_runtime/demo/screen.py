"""What the demonstration shows: drafts that resolve in place, then a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dlm_runtime.client.results import Draft, Line, Mode
from dlm_runtime.demo.crowd import Encounter
from dlm_runtime.demo.report import ModeSummary

MODE_NAMES: dict[Mode, str] = {"diffusion": "diffusion", "self_speculation": "self-speculation", "ar": "autoregression"}


class Room:
    """The live view: one row per player; settled text is bright, guesses are dim."""

    def __init__(self, console: Console, encounters: Sequence[Encounter]) -> None:
        self._encounters = encounters
        self._texts = [Text("...", style="dim") for _ in encounters]
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=30)

    def __enter__(self) -> Room:
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.update(self._table(), refresh=True)
        self._live.__exit__(None, None, None)

    def show(self, index: int, event: Draft | Line) -> None:
        """Replace the row's text."""
        if isinstance(event, Line):
            self._texts[index] = Text(event.text)
        else:
            self._texts[index] = Text.assemble(*((piece.text, "" if piece.frozen else "dim") for piece in event.pieces))

    def _table(self) -> Table:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="cyan", no_wrap=True, max_width=34)
        table.add_column(style="bold yellow", no_wrap=True)
        table.add_column(overflow="fold")
        for encounter, text in zip(self._encounters, self._texts, strict=True):
            table.add_row(encounter.player_text, encounter.character_name, text)
        return table


def summary_table(summary: dict[Mode, ModeSummary], players: int) -> Table:
    """The measured table: whole lines over gRPC, times in milliseconds."""
    title = f"Whole lines over gRPC, in ms: one player alone, and a crowd of {players} at once"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("mode", no_wrap=True)
    for heading in ("alone p50", "alone p95", "crowd p50", "crowd p95", "lines/s", "tokens/pass"):
        table.add_column(heading, justify="right", no_wrap=True)
    for mode, row in summary.items():
        times = (row.single_p50_ms, row.single_p95_ms, row.crowd_p50_ms, row.crowd_p95_ms)
        table.add_row(MODE_NAMES[mode], *(f"{value:.0f}" for value in times), f"{row.lines_per_s:.1f}", f"{row.tokens_per_forward:.2f}")
    return table
