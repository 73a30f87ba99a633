"""`dlm::ParallelUnmask` in plain numpy: what the ONNX function is tested against, and the quickest way to read what it does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .draws import gumbel_noise

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class UnmaskInputs:
    """One step's question. B rows, W window positions, V tokens, G allow-table rows."""

    logits: Floats  # [B, W, V], raw
    tokens: Ints  # [B, W]
    live: Bools  # [B, W], False on padding
    positions: Ints  # [B, W]
    allow_rows: Ints  # [B, W], index into allow_table
    allow_table: Floats  # [G, V], 0 allowed, -inf banned
    quota: Ints  # [B]
    threshold: Floats  # [B]
    temperature: Floats  # [B]
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
    with np.errstate(divide="ignore"):
        total = np.exp(biased - peak).sum(-1, keepdims=True)
        return np.where(total > 0, biased - peak - np.log(total), -np.inf).astype(np.float32)


def allowed_logits(inputs: UnmaskInputs) -> Floats:
    """Logits with every position's allow-biases. -> [B, W, V]."""
    return inputs.logits.astype(np.float32) + inputs.allow_table[inputs.allow_rows]


def sampling_scores(biased: Floats, inputs: UnmaskInputs) -> Floats:
    """What the chosen token is the argmax of: logits, perturbed by Gumbel noise in rows with a temperature. -> [B, W, V]."""
    if not (inputs.temperature > 0).any():
        return biased
    noise = gumbel_noise(inputs.seed, inputs.step, inputs.positions, biased.shape[-1])
    return biased + noise * np.maximum(inputs.temperature, 0)[:, None, None]


def ranks(score: Floats) -> Ints:
    """Place of every position in its row, 0 for the highest score; the lower position wins a tie. -> [B, W]."""
    order = np.argsort(-score, axis=-1, kind="stable")
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.broadcast_to(np.arange(score.shape[-1]), score.shape), axis=-1)
    return places


def commits(inputs: UnmaskInputs, confidence: Floats, *, mask_token_id: int) -> Bools:
    """Which masked positions are filled in: the surest `quota` of each row, and all whose confidence [B, W] reaches `threshold`."""
    eligible = (inputs.tokens == mask_token_id) & inputs.live
    rank = ranks(np.where(eligible, confidence, np.float32(-1)))
    return eligible & ((rank < inputs.quota[:, None]) | (confidence >= inputs.threshold[:, None]))


def parallel_unmask(inputs: UnmaskInputs, *, mask_token_id: int, top_k: int) -> UnmaskOutputs:
    """Choose a token for every window position, measure it, and fill in the masked positions that are sure enough."""
    biased = allowed_logits(inputs)
    logprobs = log_softmax(biased)
    probabilities = np.exp(logprobs)
    sampled_ids = sampling_scores(biased, inputs).argmax(-1)
    confidence = np.take_along_axis(probabilities, sampled_ids[..., None], -1)[..., 0]
    entropy = -np.where(probabilities > 0, probabilities * np.where(probabilities > 0, logprobs, 0), 0).sum(-1)
    top_ids = np.argsort(-biased, axis=-1, kind="stable")[..., :top_k]
    commit = commits(inputs, confidence, mask_token_id=mask_token_id)
    return UnmaskOutputs(
        canvas=np.where(commit, sampled_ids, inputs.tokens),
        committed=commit.sum(-1),
        sampled_ids=sampled_ids,
        confidence=confidence,
        entropy=entropy.astype(np.float32),
        top_ids=top_ids,
        top_logprobs=np.take_along_axis(logprobs, top_ids, -1),
    )
