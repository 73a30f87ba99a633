"""Verify a bundle against the checkpoint it came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from dlm_runtime.bundle import Bundle, Manifest

from ..checkpoint import Checkpoint
from ..denoiser import Denoiser, DenoiserConfig
from ..errors import CheckpointError
from ..loading import load_denoiser
from .cases import Case, mode_cases
from .compare import CaseResult, VerifyReport, compare_case
from .golden import LOGITS_FILE, golden_cases, golden_tolerances, run_golden
from .session import StepSession
from .torch_reference import suitable_threads, torch_answer


def verify_bundle(bundle_path: str | Path, checkpoint_path: str | Path, *, seed: int = 0) -> VerifyReport:
    """Compare in every mode on random input, and on recorded logits where the checkpoint folder has some.

    Raises BundleError, CheckpointError or EngineError where one of them cannot be used, or where they are of different sizes.
    """
    bundle = Bundle.load(bundle_path)
    checkpoint = Checkpoint.open(checkpoint_path)
    denoiser = load_denoiser(checkpoint)
    check_same_sizes(checkpoint, denoiser.config, bundle.manifest)
    session = StepSession(bundle)
    with suitable_threads(denoiser):
        results = [run_case(session, denoiser, case, seed) for case in mode_cases(bundle.manifest, seed=seed)]
    if (checkpoint.path / LOGITS_FILE).is_file():
        tolerances = golden_tolerances(checkpoint.path)
        results += [run_golden(session, case, tolerances) for case in golden_cases(checkpoint.path)]
    return VerifyReport(bundle.manifest.precision, tuple(results))


def run_case(session: StepSession, denoiser: Denoiser, case: Case, seed: int) -> CaseResult:
    """One case through both."""
    references = [torch_answer(denoiser, row) for row in case.rows]
    answer = session.answer(case, [reference.past for reference in references], np.random.default_rng(seed))
    return compare_case(case, answer, references, session.manifest)


def check_same_sizes(checkpoint: Checkpoint, config: DenoiserConfig, manifest: Manifest) -> None:
    """Raise CheckpointError where the checkpoint cannot be the bundle's source."""
    for name in ("vocab_size", "hidden_size", "layers", "heads", "kv_heads", "head_dim"):
        of_checkpoint, of_bundle = getattr(config, name), getattr(manifest, name)
        if of_checkpoint != of_bundle:
            problem = f"is {of_checkpoint}, the bundle was made from one with {of_bundle}"
            raise CheckpointError(checkpoint.path, problem, "Give the checkpoint that this bundle was exported from", item=name)
