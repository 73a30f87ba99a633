"""A forward pass costs as many Python calls for 64 rows as for 8."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import pytest
from dlm_runtime.bundle import Manifest
from dlm_runtime.cache import PrefixCache
from dlm_runtime.engines import KeyValues, StepBatch, StepResult, fake_manifest
from dlm_runtime.policies import Autoregressive, Decoding, Line, LinearSelfSpeculation, Passes, Policy, Prefill, Rule, Sampling
from dlm_runtime.policies.leftmost import Leftmost
from dlm_runtime.policies.passes import Measure, Sees, Until
from dlm_runtime.scheduler.counters import Counters
from dlm_runtime.scheduler.row import Row
from dlm_runtime.scheduler.steps import Steps
from dlm_runtime.scheduler.types import LineRequest

MASK = 1
WARM_PASSES, COUNTED_PASSES = 6, 8


class EvenEngine:
    """Fills in one mask of every row per pass, without a loop over rows, and draws the same everywhere."""

    def __init__(self) -> None:
        self.manifest: Manifest = fake_manifest(vocab_size=8)

    def step(self, batch: StepBatch) -> StepResult:
        columns = batch.window_start[:, None] + np.arange(batch.window_length)
        tokens = np.take_along_axis(batch.input_ids, columns, 1)
        first = (tokens == MASK) & (np.cumsum(tokens == MASK, 1) <= batch.quota[:, None])
        sampled = np.full_like(tokens, 5)
        present = KeyValues.zeros(self.manifest, *batch.input_ids.shape) if batch.want_present else None
        ones = np.ones(tokens.shape, np.float32)
        logits = np.ones((*tokens.shape, self.manifest.vocab_size), np.float32) if batch.want_logits else None
        return StepResult(np.where(first, sampled, tokens), sampled, first.sum(1), ones, ones, present=present, logits=logits)

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class OneBlock:
    """A block of 60 masks, filled in one after the other by `rule`."""

    rule: Rule
    guided: bool = False

    def decode(self, line: Line) -> Decoding:
        start = 0
        if not self.guided:
            yield Prefill(line.prompt_length)
            start = line.prompt_length
        line.lay(60, MASK)
        span = (line.prompt_length, len(line.canvas))
        yield Passes((start, span[1]), span, Sees.WHOLE, self.rule, Until.SETTLED, 60, guided=self.guided, cut_at_end=not self.rule.sampler)
        line.extend(line.canvas[line.prompt_length :].tolist())


POLICIES: dict[str, Policy] = {
    "denoising": OneBlock(Rule()),
    "denoising by a sampler": OneBlock(Rule(sampler=Leftmost())),
    "denoising with guidance": OneBlock(Rule(measure=Measure.MARGIN, takes_last=True), guided=True),
    "self-speculation": LinearSelfSpeculation(4, MASK),
    "autoregression": Autoregressive(),
}


def calls_of(policy: Policy, rows: int, **sampling: Any) -> list[int]:
    """Python calls of each of some passes in the middle of a directive, C functions included."""
    steps = Steps(EvenEngine(), PrefixCache(0), Counters(), 10_000)
    for seed in range(rows):
        line = Line((3, 4, 6), 100, (2,), Sampling(seed=seed, **sampling))
        steps.admit([Row(LineRequest((0,)), "diffusion", lambda event: None, lambda: None, policy, line)])
    for _ in range(WARM_PASSES):
        assert not any(steps.run())
    counts: list[int] = []
    for _ in range(COUNTED_PASSES):
        calls = 0

        def count(frame: FrameType, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            for _ in steps.run():
                pass
        finally:
            sys.setprofile(None)
        counts.append(calls)
    return counts


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.5, "top_p": 0.9, "repetition_penalty": 1.2, "guidance": 1.0}])
def test_no_pass_looks_at_rows_one_by_one(name: str, sampling: dict[str, float]) -> None:
    few, many = calls_of(POLICIES[name], 8, **sampling), calls_of(POLICIES[name], 64, **sampling)
    # NumPy itself may go another way for larger arrays now and then; a loop over rows would make it eight times as many.
    assert max(many) <= max(few) + 8
    assert min(few) > 20, "something was run at all"
