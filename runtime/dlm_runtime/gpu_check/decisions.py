"""Whether a step decided rightly: judged from its own logits, by the numpy reference, so that rounding before them does not count."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from dlm_kernels.unmask import ShapeInputs, UnmaskInputs, shape_logits
from dlm_kernels.unmask.reference import allowed_logits, commits, confidences, entropies, log_softmax, sampling_scores

from dlm_runtime.bundle import Manifest
from dlm_runtime.engines.base import StepBatch, StepResult
from dlm_runtime.engines.neutral import neutral_inputs

SCORE_SLACK = 2e-5  # relative to the best score: what rounding may turn round between two tokens that are all but equal
CONFIDENCE_SLACK = 1e-3
_NO_MASK = -1


def wrong_decisions(manifest: Manifest, batch: StepBatch, result: StepResult) -> Iterator[str]:
    """One sentence for each kind of wrong decision. The step must have been asked for logits and confidence."""
    if result.logits is None or result.confidence is None or result.entropy is None:
        yield "logits, confidence or entropy were asked for and left out"
        return
    inputs = unmask_inputs(batch, result.logits)
    biased = allowed_logits(inputs)
    scores = sampling_scores(biased, inputs)
    best = scores.max(-1)
    chosen = np.take_along_axis(scores, result.sampled_ids[..., None], -1)[..., 0]
    yield from _wrong("sampled tokens", chosen < best - SCORE_SLACK * (1 + np.abs(best)))
    logprobs = log_softmax(biased)
    expected = confidences(logprobs, result.sampled_ids, inputs.measure)
    yield from _wrong("confidences", np.abs(expected - result.confidence) > CONFIDENCE_SLACK)
    yield from _wrong("entropies", np.abs(entropies(logprobs) - result.entropy) > CONFIDENCE_SLACK * (1 + result.entropy))
    mask = _NO_MASK if manifest.mask_token_id is None else manifest.mask_token_id
    commit = commits(inputs, result.confidence, mask_token_id=mask)
    yield from _wrong("canvas positions", result.canvas != np.where(commit, result.sampled_ids, inputs.tokens))
    yield from _wrong("counts of committed tokens", result.committed != commit.sum(-1))


def unmask_inputs(batch: StepBatch, logits: np.ndarray) -> UnmaskInputs:
    """The question of a step, with what the batch left out filled in and the logits shaped."""
    wishes = {name: getattr(batch, name) for name in neutral_inputs(0)}
    wish = {name: neutral if wishes[name] is None else wishes[name] for name, neutral in neutral_inputs(batch.rows).items()}
    columns = batch.window_start[:, None] + np.arange(batch.window_length)
    shaped = shape_logits(
        ShapeInputs(
            logits=logits,
            allow_rows=batch.allow_rows,
            allow_table=batch.allow_table,
            temperature=batch.temperature,
            **{name: wish[name] for name in _SHAPES},
        )
    )
    return UnmaskInputs(
        logits=shaped,
        tokens=np.take_along_axis(batch.input_ids, columns, 1),
        live=columns < batch.query_lengths[:, None],
        positions=np.take_along_axis(batch.position_ids, columns, 1),
        allow_rows=batch.allow_rows,
        allow_table=batch.allow_table,
        quota=batch.quota,
        threshold=batch.threshold,
        temperature=batch.temperature,
        seed=batch.seed,
        step=batch.step,
        **{name: wish[name] for name in ("factor", "measure", "rank_temperature")},
    )


_SHAPES = ("scale", "sample_top_k", "sample_top_p", "repetition_penalty", "recent_ids", "guidance", "guidance_rows")


def _wrong(what: str, wrong: np.ndarray) -> Iterator[str]:
    if wrong.any():
        yield f"{int(wrong.sum())} of {wrong.size} {what} are not what its own logits say"
