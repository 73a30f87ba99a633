"""Checkpoint in, bundle folder out."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from dlm_runtime.bundle import Manifest, Source, Target, write_manifest

from .backbones import Backbone
from .checkpoint import Checkpoint
from .errors import CheckpointError
from .export_options import ExportOptions
from .families import Family, SpecialTokens, family_of
from .graph.builder import LOWEST_OPSET, GraphBuilder
from .graph.context import GraphContext
from .graph.step import StepSettings, build_step, to_model
from .graph.weight_file import WeightFile
from .precision import located_overflow
from .progress import Progress, Silent
from .rewrites import RewriteReport, apply_rewrites
from .staging import check_apart, check_target, staged_folder
from .targets import target_of
from .tokenizer_files import TOKENIZER_FILE, TokenizerFiles, read_tokenizer_files
from .weights import WeightReader, check_tensors

MODEL_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"
INLINE_LIMIT_NUMBERS = 100_000_000  # a file of its own spares memory, and beyond 2 GiB protobuf ends


@dataclass(frozen=True)
class WrittenModel:
    """What is known of a graph once it is written."""

    opset: int
    rewrites: RewriteReport


@dataclass(frozen=True)
class ExportReport:
    """What was written. `notes` are sentences for whoever exported: things that are fine but should be known.

    `rewrites` says which of the target's rewrites fired, and why others did not.
    """

    path: Path
    manifest: Manifest
    size_bytes: int
    notes: tuple[str, ...]
    rewrites: RewriteReport

    def with_notes(self, notes: tuple[str, ...]) -> ExportReport:
        """The same report with more notes."""
        return replace(self, notes=(*self.notes, *notes))


def export_bundle(
    checkpoint_path: str | Path,
    out: str | Path,
    options: ExportOptions = ExportOptions(),  # noqa: B008 (frozen)
    *,
    force: bool = False,
    progress: Progress = Silent(),  # noqa: B008 (stateless)
) -> ExportReport:
    """Write the bundle of a checkpoint to `out`, whole or not at all.

    Raises CheckpointError, UnknownFamily, OptionError or OutputError; `out` is then as it was before.
    """
    target = Path(out).absolute()
    check_target(target, force=force)
    check_apart(Path(checkpoint_path), target)
    progress.stage("reading config and tensor headers")
    checkpoint = Checkpoint.open(checkpoint_path)
    family = family_of(checkpoint)
    backbone = family.backbone(checkpoint)
    totals = check_tensors(checkpoint, family, backbone)
    tokens = family.special_tokens(checkpoint, options.special)
    tokenizer = read_tokenizer_files(checkpoint, backbone.vocab_size, family.facts.template_variables)
    manifest = make_manifest(checkpoint, family, backbone, tokens, tokenizer, options)
    with staged_folder(target, force=force) as folder:
        progress.stage("writing weights and the step graph", total_bytes=totals.stored_bytes)
        weights = WeightReader(checkpoint, family, backbone, progress.advance)
        settings = StepSettings(manifest.mask_token_id, manifest.top_k)
        model = write_model(folder, settings, weights, options, external=totals.numbers > INLINE_LIMIT_NUMBERS)
        if tokenizer.tokenizer_json is not None:
            (folder / TOKENIZER_FILE).write_text(tokenizer.tokenizer_json, encoding="utf-8", newline="")
        progress.stage("hashing")
        manifest = write_manifest(folder, manifest.model_copy(update={"opset": model.opset}))
    size_bytes = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    said = (*tokens.notes, *options.notes(family.facts), *notes(checkpoint, weights, tokenizer))
    return ExportReport(target, manifest, size_bytes, said, model.rewrites)


def write_model(folder: Path, settings: StepSettings, weights: WeightReader, options: ExportOptions, *, external: bool) -> WrittenModel:
    """Write model.onnx, with large weights in a file beside it where protobuf could not hold them, and check it."""
    arithmetic = options.arithmetic()
    with weight_file(folder / DATA_FILE, external) as data, located_overflow(weights):
        builder = GraphBuilder(data)
        build_step(settings, GraphContext(builder, weights, arithmetic))
    arithmetic.kept.check()
    target = target_of(options.precisions.target, options.precision, lowest_opset=max(arithmetic.opset, builder.lowest_opset))
    model = to_model(builder, weights.family.facts.name, opset=target.opset, ir_version=target.ir_version)
    model, rewrites = apply_rewrites(model, target)
    onnx.save_model(model, folder / MODEL_FILE)
    onnx.checker.check_model(folder / MODEL_FILE)
    return WrittenModel(target.opset, rewrites)


def weight_file(path: Path, external: bool) -> AbstractContextManager[WeightFile | None]:
    """The file for large weights, or none."""
    return WeightFile(path) if external else nullcontext()


def make_manifest(
    checkpoint: Checkpoint,
    family: Family,
    backbone: Backbone,
    tokens: SpecialTokens,
    tokenizer: TokenizerFiles,
    options: ExportOptions,
) -> Manifest:
    """The manifest, but for the files' hashes."""
    facts = family.facts
    max_context = family.max_context(checkpoint)
    if facts.block_field and tokens.block_length > max_context:
        problem = f"is {tokens.block_length}, more than the model's {max_context} positions"
        raise CheckpointError(
            checkpoint.path / "config.json", problem, "It does not describe a checkpoint of this family", item=facts.block_field
        )
    choices = options.checked(facts, max_context=max_context, block_length=tokens.block_length)
    masked = () if tokens.mask_token_id is None else (tokens.mask_token_id,)
    banned = {*masked, *tokenizer.control_ids} - set(tokens.eos_token_ids)
    caches = [backbone.cache_shape(layer) for layer in range(backbone.layers)]
    folder_name = readable(checkpoint.path.resolve().name)
    return Manifest(
        name=options.name or folder_name,
        family=facts.name,
        architecture=facts.architecture,
        opset=LOWEST_OPSET,
        vocab_size=backbone.vocab_size,
        hidden_size=backbone.hidden_size,
        layers=backbone.layers,
        heads=backbone.heads,
        kv_heads=caches[0][0],
        head_dim=caches[0][1],
        layer_caches=tuple(caches) if len(set(caches)) > 1 else (),
        max_context=choices.max_context,
        block_length=choices.block_length,
        logit_shift=facts.logit_shift,
        context_mask=choices.context_mask,
        mask_token_id=tokens.mask_token_id,
        bos_token_id=tokens.bos_token_id,
        eos_token_ids=tokens.eos_token_ids,
        pad_token_id=tokens.pad_token_id,
        banned_token_ids=tuple(sorted(banned)),
        modes=choices.modes,
        default_mode=choices.modes[0],
        default_threshold=facts.default_threshold,
        top_k=min(options.top_k, backbone.vocab_size),
        chat_template=tokenizer.chat_template,
        source=Source(checkpoint=options.source_name or folder_name, revision=options.revision or checkpoint.revision),
        targets=(Target(engine=options.precisions.target, file=MODEL_FILE),),
        **options.precision_fields(),
    )


def readable(name: str) -> str:
    """A file name as text: bytes that are none, which file systems allow, become question marks."""
    return name.encode("utf-8", "replace").decode("utf-8")


def notes(checkpoint: Checkpoint, weights: WeightReader, tokenizer: TokenizerFiles) -> tuple[str, ...]:
    """What the exporter noticed on the way."""
    found: list[str] = list(tokenizer.notes)
    if tokenizer.tokenizer_json is None:
        found.append(f"The checkpoint has no {TOKENIZER_FILE}: the bundle speaks token ids only.")
    if tokenizer.chat_template is None:
        found.append("The checkpoint has no chat template: prompts have to be assembled by the caller.")
    unread = checkpoint.unread(weights.read_keys)
    if unread:
        some = f"{unread[0]}{', ...' if len(unread) > 1 else ''}"
        found.append(f"Tensors of the checkpoint that this architecture has no place for were left out, {len(unread)} in all: {some}")
    return tuple(found)
