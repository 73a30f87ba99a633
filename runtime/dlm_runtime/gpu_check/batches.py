"""Random steps of every kind that the scheduler asks for, and of every wish that a row may have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from dlm_runtime.bundle import Manifest
from dlm_runtime.engines.base import THRESHOLD_OFF, StepBatch
from dlm_runtime.engines.key_values import KeyValues

ROWS, PAST, PROMPT = 3, 37, 50


def random_past(manifest: Manifest, rows: int, tokens: int, rng: np.random.Generator) -> KeyValues:
    """Keys and values of a normal distribution, in the model's type."""
    past = KeyValues.zeros(manifest, rows, tokens)
    for array in past.arrays:
        values = rng.normal(0, 1, array.shape).astype(np.float32)
        array[...] = values.view(np.uint32) >> 16 if manifest.cache_type == "bfloat16" else values
    return past


def step(
    manifest: Manifest, rows: int, length: int, past: int, window: int, *, causal: bool, seed: int = 0, masked: float = 0.0, **changed: Any
) -> StepBatch:
    """A step over random words. `masked` is the share of masks, `changed` sets other inputs."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, manifest.vocab_size, (rows, length))
    if manifest.mask_token_id is not None:
        ids[rng.random(ids.shape) < masked] = manifest.mask_token_id
    table = np.zeros((1, manifest.vocab_size), np.float32)
    table[0, [*manifest.banned_token_ids]] = -np.inf
    table.flags.writeable = False
    columns = np.arange(length)
    batch = StepBatch(
        input_ids=ids,
        position_ids=np.tile(past + columns, (rows, 1)),
        past_lengths=np.full(rows, past),
        query_lengths=np.full(rows, length),
        block_ids=np.tile(columns if causal else columns * 0, (rows, 1)),
        past=random_past(manifest, rows, past, rng),
        window_start=np.full(rows, length - window),
        allow_rows=np.zeros((rows, window), np.int64),
        allow_table=table,
        quota=np.ones(rows, np.int64),
        threshold=np.full(rows, 0.9, np.float32),
        temperature=np.zeros(rows, np.float32),
        seed=rng.integers(0, 2**62, rows),
        step=rng.integers(0, 9, rows),
        shift=np.full(rows, manifest.logit_shift),
        want_logits=True,
        want_confidence=True,
    )
    return replace(batch, **changed)


def prefill(manifest: Manifest) -> StepBatch:
    """Pieces of prompts of three lengths, asked for the word after their last one."""
    length = min(PROMPT, manifest.max_context)
    lengths = np.array([length, max(1, length - 7), max(1, length // 2)])
    return step(manifest, ROWS, length, 0, 1, causal=True, query_lengths=lengths, window_start=lengths - 1, want_present=True)


def denoise(manifest: Manifest) -> StepBatch:
    """Half masked blocks over contexts of three lengths."""
    block, past = manifest.block_length, _past(manifest)
    lengths = np.array([past, past // 2, 0])
    positions = lengths[:, None] + np.arange(block)
    return step(manifest, ROWS, block, past, block, causal=False, masked=0.5, past_lengths=lengths, position_ids=positions)


def sampled(manifest: Manifest) -> StepBatch:
    """The same with temperatures, every measure, a factor, and noise on the ranking."""
    return replace(
        denoise(manifest),
        temperature=np.array([0.7, 0.0, 1.2], np.float32),
        threshold=np.array([0.3, THRESHOLD_OFF, THRESHOLD_OFF], np.float32),
        measure=np.array([0, 1, 2]),
        factor=np.array([0.0, 1.5, 0.0], np.float32),
        rank_temperature=np.array([0.0, 0.0, 0.4], np.float32),
    )


def shaped(manifest: Manifest) -> StepBatch:
    """The same with filters, scale, repetition penalty and guidance."""
    batch = sampled(manifest)
    return replace(
        batch,
        sample_top_k=np.array([5, 0, 40]),
        sample_top_p=np.array([1.0, 0.9, 0.8], np.float32),
        scale=np.array([1.0, 0.8, 1.3], np.float32),
        repetition_penalty=np.array([1.0, 1.4, 1.2], np.float32),
        recent_ids=batch.input_ids[:, : max(1, manifest.block_length // 2)].copy(),
        guidance=np.array([0.0, 0.0, 1.5], np.float32),
        guidance_rows=np.array([0, 1, 0]),
    )


def autoregression(manifest: Manifest) -> StepBatch:
    """One word of each row."""
    return step(manifest, ROWS, 1, _past(manifest), 1, causal=True, want_present=True, quota=np.zeros(ROWS, np.int64))


def verify(manifest: Manifest) -> StepBatch:
    """Drafted blocks, run causally, with every position's word and the keys and values to keep."""
    block = manifest.block_length
    return step(
        manifest, ROWS, block, _past(manifest), block, causal=True, want_present=True, want_top=True, quota=np.zeros(ROWS, np.int64)
    )


KINDS: dict[str, Callable[[Manifest], StepBatch]] = {
    "prefill": prefill,
    "denoise": denoise,
    "denoise, sampled": sampled,
    "denoise, shaped logits": shaped,
    "autoregression": autoregression,
    "verify": verify,
}


def _past(manifest: Manifest) -> int:
    return max(0, min(PAST, manifest.max_context - manifest.block_length))
