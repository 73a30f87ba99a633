"""The plain loop: one line, one row, no batching, no cache. What the scheduler is tested against, and the way to read what it does."""

from __future__ import annotations

import time

import numpy as np

from dlm_runtime.engines.base import Engine, StepBatch
from dlm_runtime.engines.visibility import block_ids
from dlm_runtime.policies import Forward, Line, Policy, Prefill, Reply, policy_for
from dlm_runtime.scheduler.checks import check_request
from dlm_runtime.scheduler.tables import allow_table
from dlm_runtime.scheduler.types import LineRequest, LineResult


def write_line(engine: Engine, request: LineRequest, policy: Policy | None = None, line: Line | None = None) -> LineResult:
    """Writes one line to its end, with `policy` and `line` in place of the request's own where given.

    Raises RequestError when the model cannot serve the request, and whatever the engine raises.
    """
    started = time.perf_counter()
    manifest = engine.manifest
    mode = check_request(request, manifest)
    policy = policy or policy_for(manifest, mode, request.threshold)
    line = line or Line(request.prompt_ids, request.max_new_tokens, manifest.eos_token_ids, request.temperature)
    table = allow_table(manifest)
    past = np.zeros((manifest.layers, 2, 1, manifest.kv_heads, 0, manifest.head_dim), np.float32)
    forwards, prefill_ms = 0, 0.0
    decoding = policy.decode(line)
    asked = next(decoding, None)
    while asked is not None:
        batch = _one_row(asked, past, table, request.seed)
        result = engine.step(batch)
        forwards += 1
        reply = Reply(result.canvas[0].tolist(), result.sampled_ids[0].tolist())
        present = None if result.present is None else result.present.copy()
        if isinstance(asked, Prefill):
            reply.keep(len(asked.token_ids))
            prefill_ms = (time.perf_counter() - started) * 1000
        try:
            asked = decoding.send(reply)
        except StopIteration:
            asked = None
        if present is not None:
            past = np.concatenate([past, present[:, :, :, :, : reply.kept]], axis=4)
    if line.ending is None:
        raise RuntimeError(f"{policy=} ended without ending its line")
    total_ms = (time.perf_counter() - started) * 1000
    return LineResult(
        line.text_ids, line.ending, len(line.tokens), forwards, len(request.prompt_ids), 0, 0.0, prefill_ms, total_ms, mode, request.seed
    )


def _one_row(asked: Prefill | Forward, past: np.ndarray, table: np.ndarray, seed: int) -> StepBatch:
    length = len(asked.token_ids)
    if isinstance(asked, Prefill):
        asked = Forward(asked.token_ids, asked.causal, length - 1, 1, temperature=asked.temperature, keeps=True)
    context = past.shape[4]
    return StepBatch(
        input_ids=np.array([asked.token_ids], np.int64),
        position_ids=np.arange(context, context + length, dtype=np.int64)[None],
        past_lengths=np.array([context], np.int64),
        query_lengths=np.array([length], np.int64),
        block_ids=block_ids([asked.causal], length),
        past=past,
        window_start=np.array([asked.window_start], np.int64),
        allow_rows=np.zeros((1, asked.window_length), np.int64),
        allow_table=table,
        quota=np.array([asked.quota], np.int64),
        threshold=np.array([asked.threshold], np.float32),
        temperature=np.array([asked.temperature], np.float32),
        seed=np.array([seed], np.int64),
        step=np.array([asked.step], np.int64),
        want_present=asked.keeps,
    )
