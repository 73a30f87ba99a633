"""Checkpoint in, bundle folder out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from dlm_runtime.bundle import Manifest, write_manifest

from .block_file import write_block
from .bundle_manifest import MODEL_FILE, make_manifest
from .engines.engine_folder import EngineFolder
from .engines.report import EngineReport
from .export_options import DEFAULT_OPTIONS, ExportOptions
from .exportable import Exportable
from .families.token_files import TOKENIZER_FILE
from .graph.step import StepSettings
from .model_file import write_model
from .progress import SILENT, Progress
from .rewrites import RewriteReport
from .staging import check_apart, check_target, staged_folder
from .weights import WeightReader

INLINE_LIMIT_NUMBERS = 100_000_000  # a file of its own spares memory, and beyond 2 GiB protobuf ends


@dataclass(frozen=True)
class ExportReport:
    """What was written. `notes` are sentences for whoever exported: things that are fine but should be known.

    `rewrites` says which of the target's rewrites fired, and why others did not; `engines` what was built of the graphs, if anything.
    """

    path: Path
    manifest: Manifest
    size_bytes: int
    notes: tuple[str, ...]
    rewrites: RewriteReport
    engines: EngineReport | None = None

    def with_notes(self, notes: tuple[str, ...]) -> ExportReport:
        """The same report with more notes."""
        return replace(self, notes=(*self.notes, *notes))


def export_bundle(
    checkpoint_path: str | Path,
    out: str | Path,
    options: ExportOptions = DEFAULT_OPTIONS,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> ExportReport:
    """Write the bundle of a checkpoint to `out`, whole or not at all.

    Raises CheckpointError, UnknownFamily, OptionError, EngineError or OutputError; `out` is then as it was before.
    """
    target = Path(out).absolute()
    check_target(target, force=force)
    check_apart(Path(checkpoint_path), target)
    if options.engine is not None:
        options.engine.builder.check_installed()
    progress.stage("reading config and tensor headers")
    source = Exportable.open(checkpoint_path, options.special)
    precisions = options.precisions(source.stored_embedding)
    manifest = make_manifest(source, options, precisions)
    if options.engine is not None:
        options.engine.checked(manifest)
    engines: EngineReport | None = None
    with staged_folder(target, force=force) as folder:
        progress.stage("writing weights and the step graph", total_bytes=source.totals.stored_bytes)
        weights = WeightReader(source.checkpoint, source.family, source.backbone, progress.advance)
        settings = StepSettings(manifest.mask_token_id, manifest.top_k)
        external = options.loop or source.totals.numbers > INLINE_LIMIT_NUMBERS
        model = write_model(folder / MODEL_FILE, settings, weights, precisions, external=external)
        if source.tokenizer.tokenizer_json is not None:
            (folder / TOKENIZER_FILE).write_text(source.tokenizer.tokenizer_json, encoding="utf-8", newline="")
        built = manifest.targets[0]
        if options.loop:
            built = built.model_copy(update={"block_file": write_block(folder / MODEL_FILE)})
        if options.engine is not None:
            built, engines = EngineFolder(folder, manifest, built, options.engine, progress).build()
        progress.stage("hashing")
        manifest = write_manifest(folder, manifest.model_copy(update={"opset": model.opset, "targets": (built,)}))
    size_bytes = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    said = (*source.tokens.notes, *options.notes(source.family.facts), *notes(source, weights))
    return ExportReport(target, manifest, size_bytes, said, model.rewrites, engines)


def notes(source: Exportable, weights: WeightReader) -> tuple[str, ...]:
    """What the exporter noticed on the way."""
    found: list[str] = list(source.tokenizer.notes)
    if source.tokenizer.tokenizer_json is None:
        found.append(f"The checkpoint has no {TOKENIZER_FILE}: the bundle speaks token ids only.")
    if source.tokenizer.chat_template is None and not source.tokenizer.notes:
        found.append("The checkpoint has no chat template: prompts have to be assembled by the caller.")
    unread = source.checkpoint.unread(weights.read_keys)
    if unread:
        some = f"{unread[0]}{', ...' if len(unread) > 1 else ''}"
        found.append(f"Tensors that are no part of this network, or stored twice, were left out, {len(unread)} in all: {some}")
    return tuple(found)
