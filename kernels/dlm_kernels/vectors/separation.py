"""Is a case decided by more than rounding? Only such a case can ask every implementation for the same whole numbers.

Worked out in float64 and without the reference: what the chosen token, the ranks, the threshold and the factor rule hang on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dlm_kernels.unmask import UnmaskInputs
from dlm_kernels.unmask.draws import gumbel_noise

NOISE_GAP = 1e-3  # between the best and the second best perturbed logit
GAP = 1e-4  # between confidences, scores and what they are compared with
BANNED = -1e29

Doubles = NDArray[np.float64]


def perturbed_logits(inputs: UnmaskInputs, biased: Doubles, noise: NDArray[np.float32]) -> Doubles:
    """What a chosen token is the argmax of, from logits [B, W, V] and noise [B, W, V + 1]. -> [B, W, V]."""
    return biased + inputs.temperature[:, None, None] * noise[..., :-1]


def confidences(inputs: UnmaskInputs, biased: Doubles, sampled: NDArray[np.int64]) -> Doubles:
    """By the measure of each row. -> [B, W]."""
    with np.errstate(under="ignore"):
        weights = np.exp(biased - biased.max(-1, keepdims=True, initial=BANNED))
    p = weights / np.maximum(weights.sum(-1, keepdims=True), 1e-300)
    first_two = np.sort(p, -1)[..., :-3:-1]
    margin = first_two[..., 0] - (first_two[..., 1] if p.shape[-1] > 1 else 0)
    surprise = np.log(np.maximum(p, 1e-300))
    by_measure = np.stack([np.take_along_axis(p, sampled[..., None], -1)[..., 0], margin, (p * surprise).sum(-1)])
    worst = np.array([0.0, 0.0, -np.log(p.shape[-1])])
    by_measure = np.where(biased.max(-1) < BANNED, worst[:, None, None], by_measure)
    return by_measure[inputs.measure, np.arange(len(inputs.measure))]


def closest(distances: Doubles, where: NDArray[np.bool_]) -> float:
    """The smallest distance from 0 of those that count; infinity where none does."""
    return float(np.abs(distances)[where].min(initial=np.inf))


def rank_gap(score: Doubles, eligible: NDArray[np.bool_]) -> float:
    """Smallest difference of two eligible scores of a row that are not the same."""
    differences = score[:, :, None] - score[:, None, :]
    return closest(differences, eligible[:, :, None] & eligible[:, None, :] & (differences != 0))


def too_close(inputs: UnmaskInputs, *, mask_token_id: int) -> str | None:
    """What in this case might be decided by rounding, or None."""
    biased = np.maximum(inputs.logits.astype(np.float64), -1e35) + np.maximum(inputs.allow_table, np.float32(-1e30))[inputs.allow_rows]
    noise = gumbel_noise(inputs.seed, inputs.step, inputs.positions, biased.shape[-1] + 1)  # the last column orders positions
    perturbed = perturbed_logits(inputs, biased, noise)
    warm = (inputs.temperature > 0)[:, None] & (biased.max(-1) >= BANNED)
    if biased.shape[-1] > 1:
        best = np.partition(perturbed, -2, -1)[..., -2:]
        if closest(best[..., 1] - best[..., 0], warm) < NOISE_GAP:
            return "two perturbed logits"
    confidence = confidences(inputs, biased, np.where(biased.max(-1) < BANNED, 0, perturbed.argmax(-1)))
    score = confidence + inputs.rank_temperature[:, None] * noise[..., -1]
    eligible = (inputs.tokens == mask_token_id) & inputs.live
    if rank_gap(score, eligible) < GAP:
        return "two scores"
    if closest(confidence - inputs.threshold[:, None], eligible) < GAP:
        return "a confidence and the threshold"
    demand = 1 - inputs.factor[:, None] / (np.arange(eligible.shape[1]) + 2.0)  # by rank
    distances = confidence[:, :, None] - demand[:, None, :]
    if closest(distances, eligible[:, :, None] & (inputs.factor > 0)[:, None, None] & (distances != 0)) < GAP:
        return "a confidence and the factor rule"
    return None
