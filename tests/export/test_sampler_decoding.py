"""Whole lines with samplers that run beside the step graph, against loops that know nothing but the model's logits."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from dlm_runtime.engines import Engine
from dlm_runtime.policies import Line, Passes, Prefill, Sampling
from dlm_runtime.policies.passes import Sees
from dlm_runtime.policies.plain import PlainRow, run_line
from dlm_runtime.policies.remasking import Remasking
from dlm_runtime.policies.sampler import Sampler
from dlm_runtime.scheduler.together import write_together
from plain_samplers import Plain, PlainKlass, PlainRemasking, plain_for
from random_lines import lines_of
from sharp_samplers import SHARP, over

NEVER = -math.inf


def fill_in(row: PlainRow, plain: Plain, query: tuple[int, int], window: tuple[int, int], settles: bool) -> int:
    """A block's passes, by nothing but the model's logits. How many there were."""
    line, manifest = row.line, row.engine.manifest
    banned = [manifest.mask_token_id or 0, *manifest.banned_token_ids]
    for number in range(99):
        outcome = row.run(Passes(query, window, Sees.WHOLE, wants_logits=True))
        assert outcome.logits is not None
        allowed = outcome.logits.astype(np.float64)
        allowed[:, banned] = NEVER
        block = line.canvas[slice(*window)].tolist()
        more = {"raw": outcome.logits} if isinstance(plain, PlainKlass) else {}
        enough = plain.step(number, allowed, block, list(range(*window)), **more)
        line.canvas[slice(*window)] = block
        end = next((i for i, token_id in enumerate(block) if token_id in line.eos_token_ids), len(block)) if settles else len(block)
        if enough if isinstance(plain, PlainRemasking) else manifest.mask_token_id not in block[:end]:
            return number + 1
    raise AssertionError("a block never ended")


def write_llada(engine: Engine, sampler: Sampler, line: Line) -> int:
    """LLaDA's blocks with a plain sampler; the number of passes."""
    manifest, row = engine.manifest, PlainRow(engine, line)
    line.lay(line.limit, row.mask_token_id)
    passes, length = 0, len(line.canvas)
    for start in range(line.prompt_length, length, manifest.block_length):
        block = (start, min(start + manifest.block_length, length))
        passes += fill_in(row, plain_for(sampler, row.mask_token_id, line.sampling.seed), (0, length), block, settles=False)
        if line.extend(line.canvas[slice(*block)].tolist()):
            return passes
    raise AssertionError("a line never ended")


def write_nemotron(engine: Engine, sampler: Sampler, line: Line) -> int:
    """Nemotron's blocks, each seeded by the last pass over what stands before it."""
    row, passes = PlainRow(engine, line), 1
    seed = row.run(Prefill(line.prompt_length)).sampled[-1]
    while True:
        start = len(line.canvas)
        line.lay(min(engine.manifest.block_length, line.room), row.mask_token_id)
        span = (start, len(line.canvas))
        line.canvas[start] = seed
        if span[1] - start > 1 and seed not in line.eos_token_ids:
            plain = plain_for(sampler, row.mask_token_id, line.sampling.seed)
            passes += fill_in(row, plain, span, (start + 1, span[1]), settles=True)
        if line.extend(line.canvas[start:].tolist()):
            return passes
        seed = row.run(Passes(span, (span[1] - 1, span[1]), Sees.CAUSAL, keep=(span,), next_token=True)).sampled[-1]
        passes += 1


@pytest.mark.parametrize(("name", "write"), [("llada", write_llada), ("nemotron_labs_diffusion", write_nemotron)])
def test_a_model_is_decoded_as_the_published_samplers_would(engines: Callable[[str], Engine], name: str, write: Callable[..., int]) -> None:
    """Alone by both executors, and mixed with the others: the same tokens and as many passes."""
    engine = engines(name)
    kinds = [kind for kind in SHARP for _ in range(4)]
    expected = lines_of(engine.manifest, len(kinds), 5)
    passes = [write(engine, sampler, line) for (sampler, _), line in zip(kinds, expected, strict=True)]
    alone = lines_of(engine.manifest, len(kinds), 5)
    together = lines_of(engine.manifest, len(kinds), 5)
    pairs = [(over(engine.manifest, *kind), line) for kind, line in zip(kinds, together, strict=True)]
    written = write_together(engine, pairs)
    for number, kind in enumerate(kinds):
        forwards = run_line(engine, over(engine.manifest, *kind), alone[number]).forwards
        said = (kind[0], number)
        assert (alone[number].tokens, forwards) == (expected[number].tokens, passes[number]), said
        assert (together[number].tokens, written[number].forwards) == (expected[number].tokens, passes[number]), said
    assert min(line.limit for line in expected) < engine.manifest.block_length < max(len(line.tokens) for line in expected)


def test_remasking_leaves_alone_what_stood_in_the_window_before(engines: Callable[[str], Engine]) -> None:
    """A prompt with a mask in it: the window begins there, and some of the prompt's words lie in it."""
    engine = engines("llada")
    mask = engine.manifest.mask_token_id or 0
    prompt = (5, mask, 7, 8, 9, 10, 11, 12)
    for seed in range(8):
        line, seen = Line(prompt, 24, (), Sampling(seed=seed)), set[int]()

        def watch(canvas: np.ndarray, seen: set[int] = seen) -> None:
            seen |= {i for i in range(len(canvas)) if i not in (1, *range(8, 32)) and canvas[i] == mask}

        run_line(engine, over(engine.manifest, Remasking(256, 0.9), True), line, watch)
        assert (seen, line.ending, mask in line.tokens) == (set(), "length", False)
