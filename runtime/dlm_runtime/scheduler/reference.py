"""The plain loop: one line, one row, no batching, no cache. What the scheduler is tested against, and the way to read what it does."""

from __future__ import annotations

import time

from dlm_runtime.engines.base import Engine
from dlm_runtime.policies.choose import policy_for
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Policy
from dlm_runtime.policies.plain import run_line
from dlm_runtime.scheduler.checks import check_request
from dlm_runtime.scheduler.types import LineRequest, LineResult


def write_line(engine: Engine, request: LineRequest, policy: Policy | None = None, line: Line | None = None) -> LineResult:
    """Writes one line to its end, with `policy` and `line` in place of the request's own where given.

    Raises RequestError when the model cannot serve the request, and whatever the engine raises.
    """
    started_s = time.perf_counter()
    manifest = engine.manifest
    mode = check_request(request, manifest)
    policy = policy or policy_for(manifest, mode, request.threshold, request.sampler)
    line = line or Line(request.prompt_ids, request.max_new_tokens, manifest.eos_token_ids, request.sampling)
    written = run_line(engine, policy, line)
    if line.ending is None:
        raise RuntimeError(f"{policy=} ended without ending its line")
    return LineResult(
        token_ids=line.text_ids,
        finish_reason=line.ending,
        tokens=len(line.tokens),
        forwards=written.forwards,
        prefill_tokens=len(request.prompt_ids),
        cached_tokens=0,
        queue_ms=0.0,
        prefill_ms=0.0,
        total_ms=(time.perf_counter() - started_s) * 1000,
        mode=mode,
        seed=request.seed,
    )
