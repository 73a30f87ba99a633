"""`dlm::ShapeLogits` in plain numpy, one position after another: what the ONNX function is tested against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

FILTERED_TOKENS = 2048  # a filter looks at that many of the likeliest tokens
FLOOR = np.float32(-1e30)  # what a dropped token gets, and what a ban counts as


@dataclass(frozen=True)
class ShapeInputs:
    """What rows ask to be done to their logits. B rows, W window positions, V tokens, G allow-table rows, R recent tokens."""

    logits: Floats  # [B, W, V], raw
    allow_rows: Ints  # [B, W], index into allow_table
    allow_table: Floats  # [G, V], 0 allowed, -inf banned
    temperature: Floats  # [B], of the distribution that sample_top_p cuts; 0 counts as 1
    scale: Floats  # [B], 1 does nothing
    sample_top_k: Ints  # [B], 0 keeps all, -k keeps k after sample_top_p has cut
    sample_top_p: Floats  # [B], 1 keeps all
    repetition_penalty: Floats  # [B], 1 does nothing
    recent_ids: Ints  # [B, R], -1 is no token
    guidance: Floats  # [B], 0 does nothing
    guidance_rows: Ints  # [B], the row without the prompt


def shape_logits(inputs: ShapeInputs) -> Floats:
    """Guidance, repetition penalty, scale, filter, in this order. -> [B, W, V]; dropped tokens have `FLOOR`."""
    logits = inputs.logits.astype(np.float32)
    shaped = np.empty_like(logits)
    table = np.maximum(inputs.allow_table, FLOOR)
    for row, top_k in enumerate(inputs.sample_top_k):
        partner = logits[inputs.guidance_rows[row]]
        changed = changed_logits(logits[row], partner, inputs, row)
        for place, values in enumerate(changed):
            biased = values + table[inputs.allow_rows[row, place]]
            kept = kept_tokens(biased, int(top_k), inputs.sample_top_p[row], inputs.temperature[row])
            shaped[row, place] = np.where(kept, values, FLOOR)
    return shaped


def changed_logits(logits: Floats, partner: Floats, inputs: ShapeInputs, row: int) -> Floats:
    """Everything but the filter, for the positions of a row [W, V]."""
    guidance, penalty = inputs.guidance[row], inputs.repetition_penalty[row]
    guided = partner + (guidance + np.float32(1)) * (logits - partner) if guidance else logits
    recent = inputs.recent_ids[row]
    seen = np.isin(np.arange(logits.shape[-1]), recent[recent >= 0])
    punished = np.where(seen, np.where(guided > 0, guided / penalty, guided * penalty), guided)
    return punished * inputs.scale[row]


def kept_tokens(biased: Floats, top_k: int, top_p: np.float32, temperature: np.float32) -> NDArray[np.bool_]:
    """Which tokens [V] a filter keeps: the `top_k` likeliest, of these the first whose mass before them is not above `top_p`.

    As Hugging Face's warpers, and with -k for `top_k` Dream's sampler, which counts the mass before it cuts by number; but a tie with the
    last one kept is kept too.
    """
    size = len(biased)
    by_number, by_mass = 0 < abs(top_k) < size, top_p < 1
    if not (by_number or by_mass):
        return np.ones(size, bool)
    candidates = np.sort(biased)[::-1][:FILTERED_TOKENS]
    divisor = temperature if temperature > 0 else np.float32(1)
    weights = np.exp((candidates - candidates[0]) / divisor)
    total = np.exp((biased - candidates[0]) / divisor).sum()
    if by_number:
        left = np.count_nonzero(candidates >= candidates[min(abs(top_k), len(candidates)) - 1])
        candidates, weights = candidates[:left], weights[:left]
        total = weights.sum() if top_k > 0 else total
    if by_mass:
        before = np.concatenate(([0], np.cumsum(weights / total)[:-1]))
        candidates = candidates[: max(np.count_nonzero(before <= top_p), 1)]
    return biased >= candidates[-1]
