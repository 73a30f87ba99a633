"""Verify a bundle against the checkpoint it came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from dlm_runtime.bundle import Bundle, Manifest

from ..checkpoint import Checkpoint
from ..denoiser import DenoiserConfig
from ..errors import CheckpointError
from ..families import family_of
from ..loading import load_denoiser
from .cases import Case, mode_cases
from .compare import CaseResult, VerifyReport, compare_case
from .golden import LOGITS_FILE, golden_cases, golden_tolerances, run_golden
from .session import StepSession
from .torch_reference import Reference, reference_answers, suitable_threads


def verify_bundle(bundle_path: str | Path, checkpoint_path: str | Path, *, seed: int = 0) -> VerifyReport:
    """Compare in every mode on random input, and on recorded logits where the checkpoint folder has some.

    Raises BundleError, CheckpointError or EngineError where one of them cannot be used, or where they are of different sizes.
    """
    bundle = Bundle.load(bundle_path)
    checkpoint = Checkpoint.open(checkpoint_path)
    check_same_sizes(checkpoint, family_of(checkpoint).denoiser_config(checkpoint), bundle.manifest)
    denoiser = load_denoiser(checkpoint)
    session = StepSession(bundle)
    cases = mode_cases(bundle.manifest, seed=seed)
    with suitable_threads(denoiser):
        references = reference_answers(denoiser, cases, measure_rounding=bundle.manifest.precision == "fp32")
    results = [run_case(session, case, reference, seed) for case, reference in zip(cases, references, strict=True)]
    if (checkpoint.path / LOGITS_FILE).is_file():
        tolerances = golden_tolerances(checkpoint.path)
        results += [run_golden(session, case, tolerances) for case in golden_cases(checkpoint.path)]
    return VerifyReport(bundle.manifest.precision, tuple(results))


def run_case(session: StepSession, case: Case, reference: Reference, seed: int) -> CaseResult:
    """One case through the graph, on the past that torch computed."""
    answer = session.answer(case, [answer.past for answer in reference.answers], np.random.default_rng(seed))
    return compare_case(case, answer, reference, session.manifest)


def check_same_sizes(checkpoint: Checkpoint, config: DenoiserConfig, manifest: Manifest) -> None:
    """Raise CheckpointError where the checkpoint cannot be the bundle's source."""
    for name in ("vocab_size", "hidden_size", "layers", "heads", "kv_heads", "head_dim"):
        of_checkpoint, of_bundle = getattr(config, name), getattr(manifest, name)
        if of_checkpoint != of_bundle:
            problem = f"is {of_checkpoint}, the bundle was made from one with {of_bundle}"
            raise CheckpointError(checkpoint.path, problem, "Give the checkpoint that this bundle was exported from", item=name)
