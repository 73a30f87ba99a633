"""Reports as rich tables for people, and as plain data for `--json`."""

from __future__ import annotations

import io
import math
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from .display_engines import engine_rows, megabytes, show_engines

if TYPE_CHECKING:  # for annotations alone: the exporter and the verifier load torch, which showing an inspection does not need
    from .exporting import ExportReport
    from .inspection import Inspection
    from .verify import CaseResult, VerifyReport
    from .verify.quality_report import QualityReport
    from .verify.samples_report import SamplesReport


def plain_stdout() -> Console:
    """A console for stdout that spells out what its encoding lacks, as a pipe's on Windows does, instead of failing on it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return Console()


def export_json(report: ExportReport) -> dict[str, Any]:
    """Plain data of an export."""
    return {
        "path": str(report.path),
        "size_bytes": report.size_bytes,
        "notes": list(report.notes),
        "rewrites": report.rewrites.to_json(),
        "engines": report.engines.to_json() if report.engines else None,
        "manifest": report.manifest.model_dump(mode="json"),
    }


def show_export(console: Console, report: ExportReport) -> None:
    """What was written where, and what should be known about it."""
    m = report.manifest
    console.print(f"[green]wrote[/] {escape(str(report.path))}  {megabytes(report.size_bytes)}", soft_wrap=True)
    sizes = f"{m.layers} layers of {m.hidden_size}, {m.vocab_size} tokens, {m.precision}"
    console.print(f"{escape(m.name)}: {m.architecture}, {sizes}", soft_wrap=True)
    if report.engines is not None:
        show_engines(console, report.engines)
    for sentence in report.rewrites.sentences():
        console.print(f"rewrite {escape(sentence)}", soft_wrap=True)
    for note in report.notes:
        console.print(f"[yellow]note[/] {escape(note)}", soft_wrap=True)


def families_json() -> list[dict[str, Any]]:
    """Plain data of every family, in the order in which they are registered."""
    from .families import FAMILIES

    return [
        {
            "architecture": family.facts.architecture,
            "name": family.facts.name,
            "context_masks": list(family.facts.context_masks),
            "logit_shift": family.facts.logit_shift,
            "modes": list(family.facts.modes),
        }
        for family in FAMILIES.values()
    ]


def show_families(console: Console) -> None:
    """A row per architecture."""
    table = Table(box=None, pad_edge=False)
    for heading in ("architecture", "context", "shift", "modes"):
        table.add_column(heading, overflow="fold")
    for family in families_json():
        table.add_row(family["architecture"], " or ".join(family["context_masks"]), str(family["logit_shift"]), ", ".join(family["modes"]))
    console.print(table)


def fields_table(title: str, rows: list[tuple[str, str]]) -> Table:
    """Two columns without lines."""
    table = Table(title=escape(title), title_justify="left", title_style="bold", show_header=False, box=None, pad_edge=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(escape(name), escape(value))
    return table


def show_inspection(console: Console, inspection: Inspection) -> None:
    """Manifest, files, inputs and outputs."""
    m = inspection.manifest
    hidden = {"files", "chat_template", "targets", "source", "schema_version"}
    fields = [(name, str(value)) for name, value in m.model_dump(mode="json").items() if name not in hidden]
    fields.append(("source", f"{m.source.checkpoint} {m.source.revision or ''}".strip()))
    fields.append(("targets", ", ".join(f"{target.engine}: {target.file}" for target in m.targets)))
    fields += engine_rows(m)
    fields.append(("chat_template", f"{len(m.chat_template)} characters" if m.chat_template else "none"))
    fields.append(("parameters", f"{inspection.parameters:,}"))
    fields.append(("functions", ", ".join(inspection.functions)))
    fields.append(("operators", ", ".join(f"{count} {name}" for name, count in inspection.operators.items())))
    files = [(name, megabytes(size)) for name, size in inspection.file_bytes.items()]
    parts = [fields_table(str(inspection.path), fields), fields_table("files", files)]
    for title, values in (("inputs", inspection.inputs), ("outputs", inspection.outputs)):
        parts.append(fields_table(title, [(v.name, f"{v.element_type} [{', '.join(map(str, v.shape))}]") for v in values]))
    console.print(Group(*parts))


def verify_json(report: VerifyReport) -> dict[str, Any]:
    """Plain data of a verification."""
    fields = {
        "precision": report.precision,
        "passed": report.passed if report.results or report.samples else None,  # quality has no bound to be held against
        "criterion": str(report.tolerance),
        "largest_error": report.largest_error if report.results else None,
        "agreement": report.agreement if report.results else None,
        "quality": report.quality.to_json() if report.quality else None,
        "samples": report.samples.to_json() if report.samples else None,
        "cases": [asdict(result) | {"passed": report.tolerance.passes(result)} for result in report.results],
    }
    return finite_or_null(fields)


def finite_or_null(value: Any) -> Any:
    """Plain data with None in place of NaN and infinity, which JSON has no words for."""
    if isinstance(value, dict):
        return {name: finite_or_null(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show_verify(console: Console, report: VerifyReport) -> None:
    """One line per case and the verdict, then what changes on real prompts."""
    if report.results:
        console.print(cases_table(report))
        console.print(f"largest error {report.largest_error:.1e}, same top-1 {report.agreement:.1%}", soft_wrap=True)
        passed = report.tolerance.passes_all(list(report.results))
        console.print(f"{'[green]passed[/]' if passed else '[red]failed[/]'} {report.tolerance}", soft_wrap=True)
    if report.samples is not None:
        show_samples(console, report.samples, report.precision)
    if report.quality is not None:
        show_quality(console, report.quality)


def show_samples(console: Console, samples: SamplesReport, precision: str) -> None:
    """A line per difference, and the sum as the last."""
    if precision != "fp32" and not samples.passed:
        rounding = f"this bundle is {precision}, whose rounding alone can change tokens: compare an fp32 one"
        console.print(f"[yellow]note[/] {rounding}", soft_wrap=True)
    for sentence in samples.sentences():
        console.print(escape(sentence), soft_wrap=True, highlight=False)


def cases_table(report: VerifyReport) -> Table:
    """A row per case."""
    table = Table(box=None, pad_edge=False)
    table.add_column("case", overflow="fold")
    for heading in ("tokens", "error", "allowed", "relative", "top-1"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for result in report.results:
        allowed = f"{result.tolerance:.1e}" if report.precision == "fp32" else "-"
        measures = (f"{result.largest_error:.1e}", allowed, f"{result.relative_error:.1e}", f"{result.agreement:.0%}")
        table.add_row(escape(result.name), str(result.positions), *measures, verdict(report, result))
    return table


def show_quality(console: Console, quality: QualityReport) -> None:
    """Top-1 agreement, KL and changed lines against fp32."""
    parts = f"{quality.precision}, embedding {quality.embedding_precision}, head {quality.head_precision}"
    console.print(f"\nagainst fp32 on {quality.prompts} prompts: {parts}", soft_wrap=True)
    for name, agreement in (("next token", quality.next_token), ("masked positions", quality.denoising)):
        if agreement is not None:
            measured = f"top-1 {agreement.top1:.1%}, KL {agreement.kl:.1e} nats over {agreement.positions} positions"
            console.print(f"{name}: {measured}", soft_wrap=True)
    if quality.lines is None:
        console.print(f"[yellow]note[/] no lines were written: {escape(quality.note)}", soft_wrap=True)
        return
    console.print(f"decoded lines: {quality.lines.changed} of {quality.lines.total} changed", soft_wrap=True)
    for line in quality.lines.examples:
        console.print(
            f"  {escape(line.prompt)}\n    fp32 {escape(line.reference)}\n    {quality.precision} {escape(line.line)}", soft_wrap=True
        )


def verdict(report: VerifyReport, result: CaseResult) -> str:
    """`ok`, or what is wrong with a case."""
    if report.tolerance.passes(result):
        return "[green]ok[/]"
    if not result.finite:
        return "[red]not finite[/]"
    return f"[red]{result.wrong_decisions} wrong choices[/]" if result.wrong_decisions else "[red]fails[/]"
