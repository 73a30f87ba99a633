"""Engines as rich tables, and as plain data for `--json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from dlm_runtime.bundle import Manifest, Plan

    from .bundle_engines import AddedEngines
    from .engines.report import EngineReport


def megabytes(size_bytes: int) -> str:
    """A file size as people read it."""
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 100_000 else f"{size_bytes / 1e3:.1f} kB"


def engines_json(added: AddedEngines) -> dict[str, Any]:
    """Plain data of engines that were added to a bundle."""
    return {"path": str(added.path), "engines": added.report.to_json(), "manifest": added.manifest.model_dump(mode="json")}


def show_added(console: Console, added: AddedEngines) -> None:
    """Which bundle has new engines, and what they are."""
    console.print(f"[green]built[/] engines in {escape(str(added.path))}", soft_wrap=True)
    show_engines(console, added.report)


def show_engines(console: Console, report: EngineReport) -> None:
    """A row for each engine, then what each profile takes."""
    table = Table(box=None, pad_edge=False)
    for heading in ("engine", "of", "size", "build", "layers", "refused", "plugin"):
        table.add_column(heading, overflow="fold")
    for engine in report.engines:
        outcome, plan = engine.outcome, engine.plan
        seconds = f"{outcome.parse_s + outcome.build_s:.1f} s"
        counts = (str(len(outcome.layers)), str(len(outcome.refused)))
        table.add_row(escape(plan.file), escape(plan.graph), megabytes(outcome.plan_bytes), seconds, *counts, escape(plan.plugin or "no"))
    console.print(table)
    for plan in (engine.plan for engine in report.engines):
        console.print(f"{escape(plan.file)}: {escape(made_by(plan))}", soft_wrap=True)
        for profile in plan.profiles:
            console.print(f"  profile {profile.name}: {dimensions_text(profile.dimensions)}", soft_wrap=True, highlight=False)
    for note in report.notes:
        console.print(f"[yellow]note[/] {escape(note)}", soft_wrap=True)


def made_by(plan: Plan) -> str:
    """Which builder made an engine, and for which cards."""
    cards = f"compute capabilities {', '.join(plan.compute_capabilities)}" if plan.compute_capabilities else "the library's own cards"
    return f"{plan.builder}, {cards}"


def dimensions_text(dimensions: dict[str, tuple[int, int, int]]) -> str:
    """`B 1-8, L 1-64`: what a profile takes."""
    return ", ".join(f"{name} {low}-{high}" if low != high else f"{name} {low}" for name, (low, _, high) in dimensions.items())


def engine_rows(manifest: Manifest) -> list[tuple[str, str]]:
    """What an inspection says of a bundle's engines."""
    plans = [plan for target in manifest.targets for plan in target.plans]
    return [(plan.file, f"{made_by(plan)}; profiles {', '.join(profile.name for profile in plan.profiles)}") for plan in plans]
