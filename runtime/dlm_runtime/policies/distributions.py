"""Logits of a pass as the distributions that a line draws from, for policies that compare distributions."""

from __future__ import annotations

import numpy as np
from dlm_kernels.unmask import ShapeInputs, shape_logits
from numpy.typing import NDArray

from dlm_runtime.policies.sampling import Sampling

Float32 = NDArray[np.float32]


def distributions(logits: Float32, sampling: Sampling, banned_token_ids: tuple[int, ...]) -> Float32:
    """softmax(logits / temperature) over the tokens that are allowed and that `top_k` and `top_p` keep, [W, V] -> [W, V].

    Temperature 0 counts as 1 without a filter, as S2D2 has it.
    """
    table = np.zeros((1, logits.shape[-1]), np.float32)
    table[0, list(banned_token_ids)] = -np.inf
    if sampling.temperature > 0:
        logits = shape_logits(_shape_inputs(logits, table, sampling))[0]
    biased = logits + table
    weights = np.exp(biased - biased.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def _shape_inputs(logits: Float32, table: Float32, sampling: Sampling) -> ShapeInputs:
    one = np.ones(1, np.float32)
    return ShapeInputs(
        logits=logits[None],
        allow_rows=np.zeros((1, len(logits)), np.int64),
        allow_table=table,
        temperature=one,
        scale=one / np.float32(sampling.temperature),
        sample_top_k=np.array([sampling.top_k], np.int64),
        sample_top_p=np.array([sampling.top_p], np.float32),
        repetition_penalty=one,
        recent_ids=np.zeros((1, 0), np.int64),
        guidance=0 * one,
        guidance_rows=np.zeros(1, np.int64),
    )
