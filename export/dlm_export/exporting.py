"""Checkpoint folder in, bundle folder out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
from dlm_runtime.bundle import Manifest, Source, Target, write_manifest

from .checkpoint import Checkpoint
from .denoiser import DenoiserConfig
from .errors import CheckpointError
from .families import Family, family_of
from .graph.step import OPSET, StepSettings, build_step_model
from .precision import WRITERS
from .staging import check_apart, check_target, staged_folder
from .tokenizer_files import TOKENIZER_FILE, TokenizerFiles, read_tokenizer_files
from .weights import WeightReader, check_tensors

Precision = Literal["fp32", "int8"]
MODEL_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"
INLINE_LIMIT_BYTES = 1_500_000_000  # protobuf ends at 2 GiB
TOP_K = 8

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ExportReport:
    """What was written. `notes` are sentences for whoever exported: things that are fine but should be known."""

    path: Path
    manifest: Manifest
    size_bytes: int
    notes: tuple[str, ...]


def export_bundle(
    checkpoint_path: str | Path,
    out: str | Path,
    *,
    precision: Precision = "fp32",
    force: bool = False,
    name: str | None = None,
    progress: Progress = lambda sentence: None,
) -> ExportReport:
    """Write the bundle of a checkpoint to `out`, whole or not at all.

    Raises CheckpointError, UnknownFamily or OutputError; `out` is then as it was before.
    """
    target = Path(out).absolute()
    check_target(target, force=force)
    check_apart(Path(checkpoint_path), target)
    progress("reading config and tensor headers")
    checkpoint = Checkpoint.open(checkpoint_path)
    family = family_of(checkpoint)
    config = family.denoiser_config(checkpoint)
    check_tensors(checkpoint, family, config)
    tokenizer = read_tokenizer_files(checkpoint, config.vocab_size)
    manifest = make_manifest(checkpoint, family, config, tokenizer, precision, name)
    with staged_folder(target, force=force) as folder:
        progress("reading weights and building the step graph")
        weights = WeightReader(checkpoint, family, config)
        settings = StepSettings(manifest.mask_token_id, manifest.top_k)
        model = build_step_model(settings, weights, WRITERS[precision](), name=manifest.family)
        progress("writing the bundle")
        save_model(model, folder)
        if tokenizer.tokenizer_json is not None:
            (folder / TOKENIZER_FILE).write_text(tokenizer.tokenizer_json, encoding="utf-8", newline="")
        manifest = write_manifest(folder, manifest)
    size_bytes = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    return ExportReport(target, manifest, size_bytes, notes(checkpoint, weights, tokenizer))


def make_manifest(
    checkpoint: Checkpoint, family: Family, config: DenoiserConfig, tokenizer: TokenizerFiles, precision: Precision, name: str | None
) -> Manifest:
    """The manifest, but for the files' hashes."""
    facts, tokens = family.facts, family.special_tokens(checkpoint)
    largest = max(tokens.mask_token_id, tokens.pad_token_id, *tokens.eos_token_ids, tokens.bos_token_id or 0)
    if largest >= config.vocab_size:
        problem = f"go up to {largest}, vocab_size is {config.vocab_size}"
        raise CheckpointError(checkpoint.path / "config.json", problem, "The ids belong to another vocabulary", item="special token ids")
    banned = {tokens.mask_token_id, *tokenizer.control_ids} - set(tokens.eos_token_ids)
    folder_name = checkpoint.path.resolve().name
    return Manifest(
        name=name or folder_name,
        family=facts.name,
        architecture=facts.architecture,
        precision=precision,
        opset=OPSET,
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        layers=config.layers,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        max_context=family.max_context(checkpoint),
        block_length=tokens.block_length,
        logit_shift=facts.logit_shift,
        context_mask=facts.context_mask,
        mask_token_id=tokens.mask_token_id,
        bos_token_id=tokens.bos_token_id,
        eos_token_ids=tokens.eos_token_ids,
        pad_token_id=tokens.pad_token_id,
        banned_token_ids=tuple(sorted(banned)),
        modes=facts.modes,
        default_mode=facts.default_mode,
        default_threshold=facts.default_threshold,
        top_k=min(TOP_K, config.vocab_size),
        chat_template=tokenizer.chat_template,
        source=Source(checkpoint=folder_name, revision=checkpoint.revision),
        targets=(Target(engine="onnxruntime", file=MODEL_FILE),),
    )


def save_model(model: onnx.ModelProto, folder: Path) -> None:
    """Write model.onnx, with the weights in a file beside it where protobuf could not hold them, and check it."""
    weight_bytes = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    external = weight_bytes > INLINE_LIMIT_BYTES
    onnx.save_model(model, folder / MODEL_FILE, save_as_external_data=external, location=DATA_FILE if external else None)
    onnx.checker.check_model(folder / MODEL_FILE)


def notes(checkpoint: Checkpoint, weights: WeightReader, tokenizer: TokenizerFiles) -> tuple[str, ...]:
    """What the exporter noticed on the way."""
    found: list[str] = []
    if tokenizer.tokenizer_json is None:
        found.append(f"The checkpoint has no {TOKENIZER_FILE}: the bundle speaks token ids only.")
    if tokenizer.chat_template is None:
        found.append("The checkpoint has no chat template: prompts have to be assembled by the caller.")
    unread = checkpoint.unread(weights.read_keys)
    if unread:
        some = f"{unread[0]}{', ...' if len(unread) > 1 else ''}"
        found.append(f"Tensors of the checkpoint that this architecture has no place for were left out, {len(unread)} in all: {some}")
    return tuple(found)
