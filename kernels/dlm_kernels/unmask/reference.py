"""`dlm::ParallelUnmask` in plain numpy: what the ONNX function is tested against, and the quickest way to read what it does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .draws import gumbel_noise, rank_noise

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

PROBABILITY, MARGIN, NEGATIVE_ENTROPY = 0, 1, 2
BANNED_BELOW = np.float32(-1e29)


@dataclass(frozen=True)
class UnmaskInputs:
    """One step's question. B rows, W window positions, V tokens, G allow-table rows."""

    logits: Floats  # [B, W, V], as ShapeLogits left them
    tokens: Ints  # [B, W]
    live: Bools  # [B, W], False on padding
    positions: Ints  # [B, W]
    allow_rows: Ints  # [B, W], index into allow_table
    allow_table: Floats  # [G, V], 0 allowed, -inf banned
    quota: Ints  # [B]
    threshold: Floats  # [B]
    factor: Floats  # [B], 0 for none
    measure: Ints  # [B], PROBABILITY, MARGIN or NEGATIVE_ENTROPY
    temperature: Floats  # [B]
    rank_temperature: Floats  # [B]
    seed: Ints  # [B]
    step: Ints  # [B]


@dataclass(frozen=True)
class UnmaskOutputs:
    """One step's answer; see `parallel_unmask.onnxtxt` for what each field means."""

    canvas: Ints  # [B, W]
    committed: Ints  # [B]
    sampled_ids: Ints  # [B, W]
    confidence: Floats  # [B, W]
    entropy: Floats  # [B, W], nats
    top_ids: Ints  # [B, W, K]
    top_logprobs: Floats  # [B, W, K]


def log_softmax(biased: Floats) -> Floats:
    """Log probabilities over the last axis; a row that is -inf throughout stays -inf."""
    peak = np.maximum(biased.max(-1, keepdims=True), np.finfo(np.float32).min)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = np.exp(biased - peak).sum(-1, keepdims=True)
        return np.where(total > 0, biased - peak - np.log(total), -np.inf).astype(np.float32)


def allowed_logits(inputs: UnmaskInputs) -> Floats:
    """Logits with every position's allow-biases; what is banned, or was dropped by a filter, is -inf. -> [B, W, V]."""
    biased = inputs.logits.astype(np.float32) + inputs.allow_table[inputs.allow_rows]
    return np.where(biased < BANNED_BELOW, -np.inf, biased).astype(np.float32)


def sampling_scores(biased: Floats, inputs: UnmaskInputs) -> Floats:
    """What the chosen token is the argmax of: logits, perturbed by Gumbel noise in rows with a temperature. -> [B, W, V]."""
    if not (inputs.temperature > 0).any():
        return biased
    noise = gumbel_noise(inputs.seed, inputs.step, inputs.positions, biased.shape[-1])
    return biased + noise * np.maximum(inputs.temperature, 0)[:, None, None]


def ranks(score: NDArray[np.floating]) -> Ints:
    """Place of every position in its row, 0 for the highest score; the lower position wins a tie. -> [B, W]."""
    order = np.argsort(-score, axis=-1, kind="stable")
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.broadcast_to(np.arange(score.shape[-1]), score.shape), axis=-1)
    return places


def confidences(logprobs: Floats, sampled_ids: Ints, measure: Ints) -> Floats:
    """What each row's measure says of each position, from log probabilities [B, W, V]. -> [B, W]."""
    probabilities = np.exp(logprobs)
    chosen = np.take_along_axis(probabilities, sampled_ids[..., None], -1)[..., 0]
    second = np.partition(probabilities, -2)[..., -2] if probabilities.shape[-1] > 1 else 0
    margin = probabilities.max(-1) - second
    all_banned = np.isneginf(logprobs).all(-1)
    certainty = np.where(all_banned, -np.log(np.float32(logprobs.shape[-1])), -entropies(logprobs))
    column = measure[:, None]
    return np.select([column == PROBABILITY, column == MARGIN], [chosen, margin], certainty).astype(np.float32)


def entropies(logprobs: Floats) -> Floats:
    """In nats, 0 where everything is banned. [B, W, V] -> [B, W]."""
    finite = np.where(np.isneginf(logprobs), 0, logprobs)
    return -(np.exp(logprobs) * finite).sum(-1, dtype=np.float32)


def commits(inputs: UnmaskInputs, confidence: Floats, *, mask_token_id: int) -> Bools:
    """Which masked positions are filled in, given their confidence [B, W]. -> [B, W].

    The best `quota` of each row, all that reach `threshold`, and with a `factor` those before the first whose confidence is too low for its
    rank (Fast-dLLM: the k-th best, from 1, has to have 1 - factor / (k + 1), but for the first).
    """
    eligible = (inputs.tokens == mask_token_id) & inputs.live
    rank = ranks(np.where(eligible, ranking_scores(inputs, confidence), -np.inf))
    within_quota, sure = rank < inputs.quota[:, None], confidence >= inputs.threshold[:, None]
    factor = inputs.factor[:, None]
    needed = np.float32(1) - factor / (rank.astype(np.float32) + np.float32(2))
    fails = eligible & (rank >= 1) & (confidence < needed)
    reach = np.where(fails, rank, np.iinfo(np.int64).max).min(-1, keepdims=True)
    return eligible & (within_quota | sure | ((factor > 0) & (rank < reach)))


def ranking_scores(inputs: UnmaskInputs, confidence: Floats) -> Floats:
    """Confidence, with noise in rows with a rank temperature. -> [B, W]."""
    if not (inputs.rank_temperature > 0).any():
        return confidence
    noise = rank_noise(inputs.seed, inputs.step, inputs.positions, inputs.logits.shape[-1])
    return confidence + noise * np.maximum(inputs.rank_temperature, 0)[:, None]


def parallel_unmask(inputs: UnmaskInputs, *, mask_token_id: int, top_k: int) -> UnmaskOutputs:
    """Choose a token for every window position, measure it, and fill in the masked positions that are good enough."""
    biased = allowed_logits(inputs)
    logprobs = log_softmax(biased)
    sampled_ids = sampling_scores(biased, inputs).argmax(-1)
    confidence = confidences(logprobs, sampled_ids, inputs.measure)
    top_ids = np.argsort(-biased, axis=-1, kind="stable")[..., :top_k]
    commit = commits(inputs, confidence, mask_token_id=mask_token_id)
    return UnmaskOutputs(
        canvas=np.where(commit, sampled_ids, inputs.tokens),
        committed=commit.sum(-1),
        sampled_ids=sampled_ids,
        confidence=confidence,
        entropy=entropies(logprobs),
        top_ids=top_ids,
        top_logprobs=np.take_along_axis(logprobs, top_ids, -1),
    )
