"""Samplers that run here and not in the step graph: each kind decides for all of its rows at once."""

from __future__ import annotations

import numpy as np

from dlm_runtime.engines.base import Int64, StepResult
from dlm_runtime.policies.sampler import Bools, Sampler, SamplerStep
from dlm_runtime.scheduler.ask import Asked, current
from dlm_runtime.scheduler.slate import Slate


def decide(slate: Slate, asked: Asked, result: StepResult) -> Bools:
    """Lays the samplers' tokens into their rows' windows. Which rows [n] are done."""
    done = np.zeros(len(slate), np.bool_)
    for number, (sampler, parameters) in enumerate(slate.kinds, 1):
        places = np.flatnonzero(slate.sampler[: len(slate)] == number)
        if len(places):
            done[places] = _decide(slate, asked, result, sampler, parameters, places)
    return done


def _decide(slate: Slate, asked: Asked, result: StepResult, sampler: type[Sampler], parameters: int, places: Int64) -> Bools:
    start, size = slate.start[places], slate.stop[places] - slate.start[places]
    offsets = np.arange(int(size.max()))  # [W], from every row's own window start
    inside = offsets < size[:, None]
    columns = np.minimum(start[:, None] + offsets, slate.tokens.shape[1] - 1)
    rows = places[:, None]
    step = _step(slate, asked, result, sampler, parameters, places, columns, inside)
    tokens, done = sampler.choose(step, slate.mask_token_id)
    if slate.memory is not None:
        slate.memory[places, : len(offsets), : sampler.memory_width] = step.memory
    # Padding of one row's window may be another column of its query: only what is inside is written.
    where, what = np.nonzero(inside)
    slate.tokens[places[where], columns[where, what]] = tokens[where, what]
    slate.guesses[rows[where, 0], columns[where, what]] = step.sampled[where, what]
    return done


def _step(
    slate: Slate,
    asked: Asked,
    result: StepResult,
    sampler: type[Sampler],
    parameters: int,
    places: Int64,
    columns: Int64,
    inside: Bools,
) -> SamplerStep:
    if result.confidence is None or result.entropy is None:
        raise ValueError("the engine left out the confidence it was asked for")
    rows, width = places[:, None], columns.shape[1]
    window = np.minimum(columns - asked.window_start[places, None], result.sampled_ids.shape[1] - 1)  # [n, W] of the batch's window
    tokens = slate.tokens[rows, columns]
    sampled = result.sampled_ids[rows, window]
    number = asked.number[places]
    memory = None if slate.memory is None else slate.memory[places, :width, : sampler.memory_width]
    logits = None if result.logits is None or not sampler.wants_logits else result.logits[rows, window]
    previous = None
    if logits is not None:
        previous = slate.wide("previous", width, logits.shape[2])[places, :width]
    return SamplerStep(
        parameters=slate.parameters[places, :parameters],
        tokens=tokens,
        masked=(tokens == slate.mask_token_id) & inside,
        inside=inside,
        sampled=sampled,
        confidence=result.confidence[rows, window],
        entropy=result.entropy[rows, window],
        quota=current(slate.quotas[places], number),
        step=number,
        seed=slate.seed[places],
        positions=slate.position[places, None] + columns,
        memory=np.zeros((len(places), width, 0), np.float32) if memory is None else memory,
        likeliest=sampled if result.top_ids is None else result.top_ids[rows, window, 0],
        logits=logits,
        previous_logits=previous,
    )
