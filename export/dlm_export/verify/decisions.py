"""Did the graph's `dlm::ParallelUnmask` decide rightly? Judged from the graph's own logits, by the numpy reference."""

from __future__ import annotations

import numpy as np
from dlm_kernels.unmask.reference import allowed_logits, commits, confidences, log_softmax, sampling_scores

from .session import StepAnswer

SCORE_SLACK = 1e-5  # relative to the best score: what rounding may turn round between two tokens that are all but equal
CONFIDENCE_ABS = 1e-4


def wrong_decisions(answer: StepAnswer, *, mask_token_id: int | None) -> int:
    """Count the window positions that were decided wrongly.

    A token is wrong when the reference finds a clearly better one, a confidence when it is not what the row's measure says of that token's
    position, and a commitment when it does not follow from the graph's own confidences. So a near tie, which rounding settles either way,
    is no error.
    """
    inputs, outputs = answer.unmask_inputs(), answer.outputs
    sampled_ids, confidence = outputs["sampled_ids"], outputs["confidence"]
    biased = allowed_logits(inputs)
    chosen = sampled_ids[..., None]
    scores = sampling_scores(biased, inputs)
    best = scores.max(-1)
    # Where everything is banned both sides are -inf, which is not less than itself: whatever stands there is right.
    wrong_token = np.take_along_axis(scores, chosen, -1)[..., 0] < best - SCORE_SLACK * (1 + np.abs(best))
    expected = confidences(log_softmax(biased), sampled_ids, inputs.measure)
    wrong_confidence = np.abs(expected - confidence) > CONFIDENCE_ABS
    commit = commits(inputs, confidence, mask_token_id=-1 if mask_token_id is None else mask_token_id)
    wrong_canvas = outputs["canvas"] != np.where(commit, sampled_ids, inputs.tokens)
    return int((wrong_token | wrong_confidence | wrong_canvas).sum())
