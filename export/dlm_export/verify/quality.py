"""How much a bundle of lower precision differs from the fp32 bundle of the same checkpoint, on real prompts.

First both read the same answers, position by position, so that one early difference does not hide what comes after; then both write
lines by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from dlm_runtime.bundle import Bundle, Manifest
from dlm_runtime.engines import OnnxEngine
from dlm_runtime.errors import BundleError
from dlm_runtime.policies import check_servable
from dlm_runtime.scheduler.reference import write_line
from dlm_runtime.scheduler.types import LineRequest

from .quality_prompts import LINE_TOKENS, QualityPrompt, bundle_tokens, tavern_prompts
from .quality_report import AgreementMeter, LineChanges, QualityReport, line_changes
from .quality_steps import Ints, Reader, blocks_of
from .session import StepSession

LINES = 32
Lines = list[tuple[int, ...]]
QualityProgress = Callable[[str, int, int], None]
"""Told what is being done, and how many of how many are done."""


def compare_bundles(
    bundle_path: str | Path,
    reference_path: str | Path,
    prompts: Sequence[QualityPrompt] | None = None,
    *,
    lines: int = LINES,
    seed: int = 0,
    progress: QualityProgress = lambda sentence, done, total: None,
) -> QualityReport:
    """Compare a bundle with an fp32 bundle of the same checkpoint, on `prompts` or the tavern's first `lines`.

    Lines are written by the default mode, greedily. No more than two models are in memory at a time. Raises BundleError where the two
    do not belong together or there is nothing to write prompts with, EngineError where one cannot be run.
    """
    bundle, reference = Bundle.load(bundle_path), Bundle.load(reference_path)
    check_pair(bundle, reference)
    chosen = list(tavern_prompts(reference, lines) if prompts is None else prompts)
    no_answers = why_no_lines(reference.manifest)
    note = no_answers or why_no_lines(bundle.manifest)
    expected = [] if no_answers else write_lines(reference, chosen, seed, "writing lines in fp32", progress)
    found = [] if note else write_lines(bundle, chosen, seed, f"writing lines in {bundle.manifest.precision}", progress)
    answers = [answer_ids(prompt, reference.manifest, expected[index] if expected else None) for index, prompt in enumerate(chosen)]
    next_token, denoising = read_answers(bundle, reference, answers, seed, progress)
    return QualityReport(
        precision=bundle.manifest.precision,
        embedding_precision=bundle.manifest.embedding_precision,
        head_precision=bundle.manifest.head_precision or bundle.manifest.precision,
        kept_layers=bundle.manifest.kept_layers,
        prompts=len(chosen),
        next_token=next_token.result() if can_read_causally(reference.manifest) else None,
        denoising=denoising.result(),
        lines=None if note else changes(reference, chosen, expected, found),
        note=note,
    )


def check_pair(bundle: Bundle, reference: Bundle) -> None:
    """Raise BundleError where the second cannot be the first in fp32."""
    ours, theirs = bundle.manifest, reference.manifest
    if theirs.precision != "fp32":
        raise BundleError(reference.path, f"is {theirs.precision}", "Give the fp32 bundle of the same checkpoint to compare with")
    for name in ("architecture", "vocab_size", "hidden_size", "layers", "block_length", "context_mask", "mask_token_id", "default_mode"):
        if getattr(ours, name) != getattr(theirs, name):
            problem = f"has {name}={getattr(theirs, name)!r}, {bundle.path} has {getattr(ours, name)!r}"
            raise BundleError(reference.path, problem, "Give the fp32 bundle of the same checkpoint to compare with")


def can_read_causally(manifest: Manifest) -> bool:
    """Whether a causal pass over a text predicts its next tokens."""
    return manifest.context_mask == "causal" and bool({"ar", "self_speculation"} & set(manifest.modes))


def why_no_lines(manifest: Manifest) -> str:
    """Empty where the runtime can write lines with a model."""
    try:
        check_servable(manifest)
    except BundleError as error:
        return error.problem
    return ""


def write_lines(bundle: Bundle, prompts: Sequence[QualityPrompt], seed: int, sentence: str, progress: QualityProgress) -> Lines:
    """One line per prompt, its end-of-line token left out."""
    engine = OnnxEngine(bundle)
    try:
        written: Lines = []
        for prompt in prompts:
            progress(sentence, len(written), len(prompts))
            request = LineRequest(prompt.ids, max_new_tokens=room(prompt, bundle.manifest), seed=seed)
            written.append(write_line(engine, request).token_ids)
    finally:
        engine.close()
    progress(sentence, len(prompts), len(prompts))
    return written


def room(prompt: QualityPrompt, manifest: Manifest) -> int:
    """Most tokens of a line behind a prompt."""
    return max(min(LINE_TOKENS, manifest.max_context - len(prompt.ids)), 1)


def answer_ids(prompt: QualityPrompt, manifest: Manifest, line: tuple[int, ...] | None) -> tuple[Ints, Ints]:
    """What is read behind what: the reference's own line and its end, or without one the latter part of the prompt."""
    if line is not None:
        ended = (*line, manifest.eos_token_ids[0]) if len(line) < room(prompt, manifest) else line
        return np.array(prompt.ids, np.int64), np.array(ended, np.int64)
    ids = np.array(prompt.ids, np.int64)
    cut = max(len(ids) - manifest.block_length, 1)
    return ids[:cut], ids[cut:]


def read_answers(
    bundle: Bundle, reference: Bundle, answers: Sequence[tuple[Ints, Ints]], seed: int, progress: QualityProgress
) -> tuple[AgreementMeter, AgreementMeter]:
    """Both models over all answers: next tokens, then blocks."""
    readers = [Reader(StepSession(one)) for one in (reference, bundle)]
    next_token, denoising = AgreementMeter(), AgreementMeter()
    for index, (prompt, answer) in enumerate(answers):
        progress("reading the same answers", index, len(answers))
        if len(answer):
            read_answer(readers, prompt, answer, np.random.default_rng((seed, index)), next_token, denoising)
    progress("reading the same answers", len(answers), len(answers))
    return next_token, denoising


def read_answer(
    readers: Sequence[Reader], prompt: Ints, answer: Ints, rng: np.random.Generator, next_token: AgreementMeter, denoising: AgreementMeter
) -> None:
    """One answer; each model keeps a context of its own."""
    pasts = [reader.empty() for reader in readers]

    def commit(token_ids: Ints, window: int) -> None:
        """Append tokens to both contexts, and compare what is said behind the last `window` of them."""
        nonlocal pasts
        committed = [reader.commit(token_ids, past, window=window) for reader, past in zip(readers, pasts, strict=True)]
        next_token.add(*(logits for logits, _ in committed))
        pasts = [past for _, past in committed]

    commit(prompt, 1)
    done = 0
    for block in blocks_of(answer, readers[0].manifest, rng):
        if block.start > done:
            commit(answer[done : block.start], block.start - done)
            done = block.start
        denoising.add(*(reader.denoise(block, past) for reader, past in zip(readers, pasts, strict=True)))
    if done < len(answer) - 1:  # nothing is said of what comes after the end
        commit(answer[done:-1], len(answer) - 1 - done)


def changes(reference: Bundle, prompts: Sequence[QualityPrompt], expected: Lines, found: Lines) -> LineChanges:
    """Which lines differ, as text where there is a tokenizer."""
    decode = bundle_tokens(reference).decode if reference.tokenizer_path else str
    return line_changes([prompt.text for prompt in prompts], expected, found, decode)
