"""Verify a bundle against the checkpoint it came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from dlm_runtime.bundle import Bundle, Manifest

from ..backbones import Backbone
from ..checkpoint import Checkpoint
from ..errors import CheckpointError
from ..families import family_of
from ..loading import load_module
from ..progress import Progress, Silent
from .cases import Case, mode_cases
from .compare import CaseResult, VerifyReport, compare_case
from .golden import LOGITS_FILE, GoldenCase, golden_cases
from .golden_diffusion_gemma import replay_diffusion_gemma
from .replay import replay
from .session import StepSession
from .torch_reference import Reference, reference_answers, suitable_threads


def verify_bundle(bundle_path: str | Path, reference_path: str | Path, *, seed: int = 0, progress: Progress = Silent()) -> VerifyReport:  # noqa: B008 (stateless)
    """Compare the exported graph with recorded logits where the folder has some, else with the checkpoint in torch, in every mode.

    Raises BundleError, CheckpointError or EngineError where one of them cannot be used, or where they are of different sizes.
    """
    bundle, folder = Bundle.load(bundle_path), Path(reference_path)
    session = StepSession(bundle)
    if (folder / LOGITS_FILE).is_file():
        cases = golden_cases(folder)
        check_recording(folder, cases, bundle.manifest)
        play = replay_diffusion_gemma if session.has_roles else replay
        return VerifyReport(bundle.manifest.precision, tuple(play(session, case) for case in cases))
    checkpoint = Checkpoint.open(folder)
    check_same_sizes(checkpoint, family_of(checkpoint).backbone(checkpoint), bundle.manifest)
    return VerifyReport(bundle.manifest.precision, tuple(compare_with_torch(session, checkpoint, seed)))


def compare_with_torch(session: StepSession, checkpoint: Checkpoint, seed: int) -> list[CaseResult]:
    """Random rows of every mode through the graph and through the plain torch module."""
    module = load_module(checkpoint)
    cases = mode_cases(session.manifest, seed=seed)
    with suitable_threads(module):
        references = reference_answers(module, cases, measure_rounding=session.manifest.precision == "fp32")
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
