"""Verify a bundle against the checkpoint it came from."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from dlm_runtime.bundle import Bundle, Manifest

from ..backbones import Backbone
from ..checkpoint import Checkpoint
from ..errors import CheckpointError
from ..export_options import ExportOptions
from ..exporting import export_bundle
from ..families import SpecialOverrides, family_of
from ..loading import load_module
from ..progress import SILENT, Progress
from ..staging import is_bundle
from .cases import Case, mode_cases
from .compare import CaseResult, VerifyReport, coarsest_precision, compare_case
from .golden import LOGITS_FILE, GoldenCase, golden_cases
from .golden_diffusion_gemma import replay_diffusion_gemma
from .quality import QualityProgress, compare_bundles
from .quality_report import QualityReport
from .replay import replay
from .samples import verify_samples
from .session import StepSession
from .torch_reference import Reference, reference_answers, suitable_threads


def verify_bundle(
    bundle_path: str | Path,
    reference_path: str | Path,
    *,
    seed: int = 0,
    samples: bool = False,
    progress: Progress = SILENT,
) -> VerifyReport:
    """Compare the exported graph with what the reference folder holds; with `samples`, recorded sampler runs and logits alone.

    Recorded logits are played; against a checkpoint, the plain torch module answers in every mode, and a bundle below fp32 is compared with
    the checkpoint's fp32 bundle on real prompts as well; against another bundle, that alone is done.

    Raises BundleError, CheckpointError or EngineError where one of them cannot be used, or where they are of different sizes.
    """
    bundle, folder = Bundle.load(bundle_path), Path(reference_path)
    precision = coarsest_precision(bundle.manifest)
    if samples:
        results = play_recording(StepSession(bundle), folder) if (folder / LOGITS_FILE).is_file() else ()
        return VerifyReport(precision, results, samples=verify_samples(bundle, folder, progress))
    if (folder / LOGITS_FILE).is_file():
        return VerifyReport(precision, play_recording(StepSession(bundle), folder))
    if is_bundle(folder):
        return VerifyReport(precision, quality=compare_bundles(bundle_path, folder, seed=seed, progress=told(progress)))
    checkpoint = Checkpoint.open(folder)
    backbone = family_of(checkpoint).backbone(checkpoint)
    check_same_sizes(checkpoint, backbone, bundle.manifest)
    progress.stage("comparing with torch")
    results = tuple(compare_with_torch(StepSession(bundle), checkpoint, seed, has_roles=backbone.has_roles))
    return VerifyReport(precision, results, quality_of(bundle, folder, seed, progress))


def play_recording(session: StepSession, folder: Path) -> tuple[CaseResult, ...]:
    """Every recorded call of a folder, on the graph."""
    cases = golden_cases(folder)
    check_recording(folder, cases, session.manifest)
    play = replay_diffusion_gemma if session.has_roles else replay
    return tuple(play(session, case) for case in cases)


def quality_of(bundle: Bundle, checkpoint: Path, seed: int, progress: Progress) -> QualityReport | None:
    """A bundle below fp32 against an fp32 bundle made for the purpose; None where there is nothing to compare or no tokenizer."""
    if coarsest_precision(bundle.manifest) == "fp32" or bundle.tokenizer_path is None or bundle.manifest.mask_token_id is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "fp32"
        export_bundle(checkpoint, reference, same_choices(bundle.manifest), progress=progress)
        return compare_bundles(bundle.path, reference, seed=seed, progress=told(progress))


def same_choices(manifest: Manifest) -> ExportOptions:
    """The options of a bundle but for its precisions, so that these are all that its fp32 counterpart differs in."""
    return ExportOptions(
        modes=manifest.modes,
        context_mask=manifest.context_mask,
        max_context=manifest.max_context,
        block_length=manifest.block_length,
        special=SpecialOverrides(manifest.mask_token_id, manifest.bos_token_id, manifest.eos_token_ids, manifest.pad_token_id),
    )


def told(progress: Progress) -> QualityProgress:
    """Progress of a comparison, in words."""
    return lambda sentence, done, total: progress.stage(f"{sentence}, {done} of {total}")


def compare_with_torch(session: StepSession, checkpoint: Checkpoint, seed: int, *, has_roles: bool) -> list[CaseResult]:
    """Random rows of every mode through the graph and through the plain torch module."""
    module = load_module(checkpoint)
    cases = mode_cases(session.manifest, seed=seed)
    with suitable_threads(module):
        measure = coarsest_precision(session.manifest) == "fp32"
        references = reference_answers(module, cases, has_roles=has_roles, measure_rounding=measure)
    return [run_case(session, case, reference, seed) for case, reference in zip(cases, references, strict=True)]


def run_case(session: StepSession, case: Case, reference: Reference, seed: int) -> CaseResult:
    """One case through the graph, on the past that torch computed."""
    answer = session.answer(case, [answer.past for answer in reference.answers], np.random.default_rng(seed))
    return compare_case(case, answer, reference, session.manifest)


def check_same_sizes(checkpoint: Checkpoint, backbone: Backbone, manifest: Manifest) -> None:
    """Raise CheckpointError where the checkpoint cannot be the bundle's source."""
    for name in ("vocab_size", "hidden_size", "layers", "heads"):
        check_equal(checkpoint.path, name, getattr(backbone, name), getattr(manifest, name))
    for layer in range(manifest.layers):
        check_equal(checkpoint.path, f"(kv_heads, head_dim) of layer {layer}", backbone.cache_shape(layer), manifest.cache_shape(layer))


def check_recording(folder: Path, cases: list[GoldenCase], manifest: Manifest) -> None:
    """Raise CheckpointError where the recording cannot be of the bundle's checkpoint."""
    for case in cases:
        check_equal(folder / LOGITS_FILE, f"vocab_size of {case.name}", case["logits"].shape[2], manifest.vocab_size)


def check_equal(file: Path, name: str, of_checkpoint: object, of_bundle: object) -> None:
    """Raise CheckpointError where the two differ."""
    if of_checkpoint != of_bundle:
        problem = f"is {of_checkpoint}, the bundle was made from one with {of_bundle}"
        raise CheckpointError(file, problem, "Give the checkpoint that this bundle was exported from", item=name)
