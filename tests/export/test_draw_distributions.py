"""Lines at a temperature: whole policies draw from the model's distribution, and a draw hangs on seed and position alone."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from dlm_runtime.engines import Engine
from dlm_runtime.policies import Autoregressive, Line, LinearSelfSpeculation, Passes, Policy, Prefill, Sampling, policy_for
from dlm_runtime.policies.dream import Dream
from dlm_runtime.policies.llada import Llada
from dlm_runtime.policies.passes import Sees
from dlm_runtime.policies.plain import PlainRow
from dlm_runtime.policies.s2d2 import SelfSpeculation
from dlm_runtime.policies.sdar import BlockDiffusion
from dlm_runtime.scheduler.together import write_together

LINES = 1000
WORDS = (20, 33, 41, 77, 90)  # all that may be drawn
FILTERS: list[dict[str, Any]] = [{}, {"top_k": 3}, {"top_p": 0.7}, {"top_k": 4, "top_p": 0.8}]
DEVIATIONS = 4.0  # standard deviations of a normal number that would be about as unlikely


def sampling_of(engine: Engine, seed: int = 0, temperature: float = 4.0, **filters: Any) -> Sampling:
    """Only WORDS may be drawn. The logits of these models lie far apart, so the temperature is high."""
    banned = tuple(i for i in range(engine.manifest.vocab_size) if i not in WORDS)
    return Sampling(temperature, seed, banned_token_ids=banned, **filters)


def expected_odds(logits: np.ndarray, sampling: Sampling) -> dict[int, float]:
    """Hugging Face's processors one after the other, on a handful of tokens: temperature, top_k, top_p."""
    weights = {word: math.exp((float(logits[word]) - float(max(logits[list(WORDS)]))) / sampling.temperature) for word in WORDS}
    order = sorted(WORDS, key=lambda word: -weights[word])[: sampling.top_k or None]
    total, before, kept = sum(weights[word] for word in order), 0.0, []
    for word in order:
        if kept and before > sampling.top_p:
            break
        kept.append(word)
        before += weights[word] / total
    return {word: weights[word] / sum(weights[one] for one in kept) for word in kept}


def chi_square(counts: Counter[Any], odds: dict[Any, float]) -> tuple[float, float]:
    """The statistic, and what it hardly ever exceeds where counts come of the odds (Wilson and Hilferty 1931). Rare outcomes are pooled."""
    total = sum(counts.values())
    assert not set(counts) - set(odds), "something was drawn that cannot be"
    common = [outcome for outcome, chance in odds.items() if chance * total >= 8]
    cells = [(counts[outcome], odds[outcome] * total) for outcome in common]
    rare = [outcome for outcome in odds if outcome not in common]
    if sum(odds[outcome] for outcome in rare) * total >= 8:
        cells.append((sum(counts[outcome] for outcome in rare), sum(odds[outcome] for outcome in rare) * total))
    freedom = max(len(cells) - 1, 1)
    most = freedom * (1 - 2 / (9 * freedom) + DEVIATIONS * math.sqrt(2 / (9 * freedom))) ** 3
    return sum((found - expected) ** 2 / expected for found, expected in cells), most


def written(
    engine: Engine, policy: Policy, prompt: Sequence[int], limit: int, count: int = LINES, **sampling: Any
) -> list[tuple[int, ...]]:
    """A line for each of `count` seeds."""
    lines = [Line(tuple(prompt), limit, (), sampling_of(engine, seed, **sampling)) for seed in range(count)]
    for first in range(0, count, 500):
        write_together(engine, [(policy, line) for line in lines[first : first + 500]])
    return [tuple(line.tokens) for line in lines]


def asked(engine: Engine, prompt: Sequence[int], masks: int, *passes: Prefill | Passes) -> np.ndarray:
    """Raw logits [V] of the last column of the last pass over a canvas of prompt and masks."""
    line = Line(tuple(prompt), 9, ())
    row = PlainRow(engine, line)
    line.lay(masks, row.mask_token_id)
    outcome = [row.run(one) for one in passes][-1]
    assert outcome.logits is not None
    return outcome.logits[-1]


def next_odds(engine: Engine, prompt: Sequence[int], sampling: Sampling) -> dict[int, float]:
    length = len(prompt)
    return expected_odds(asked(engine, prompt, 0, Passes((0, length), (length - 1, length), Sees.CAUSAL, wants_logits=True)), sampling)


def chains(odds: Callable[[tuple[int, ...]], dict[int, float]], length: int) -> dict[tuple[int, ...], float]:
    """The odds of whole lines, where `odds` says those of the token after some."""
    lines = {(): 1.0}
    for _ in range(length):
        lines = {(*line, word): chance * one for line, chance in lines.items() for word, one in odds(line).items()}
    return lines


@pytest.mark.parametrize("filters", FILTERS)
def test_next_tokens(engines: Callable[[str], Engine], filters: dict[str, Any]) -> None:
    """Three in a row: the first is drawn by Prefill, the others by Extend; Speculate draws the very same."""
    engine, prompt = engines("nemotron_labs_diffusion"), (10, 11, 12, 13)
    sampling = sampling_of(engine, **filters)
    odds = chains(lambda line: next_odds(engine, (*prompt, *line), sampling), 3)
    lines = written(engine, Autoregressive(), prompt, 3, **filters)
    statistic, most = chi_square(Counter(lines), odds)
    assert statistic < most
    assert lines == written(engine, LinearSelfSpeculation(3, 100), prompt, 3, **filters)


def one_mask(engine: Engine, prompt: tuple[int, ...], shift: int, sampling: Sampling) -> dict[tuple[int, ...], float]:
    length = len(prompt)
    passes = Passes((0, length + 1), (length, length + 1), Sees.WHOLE, shift=shift, wants_logits=True)
    return {(word,): chance for word, chance in expected_odds(asked(engine, prompt, 1, passes), sampling).items()}


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize(("name", "policy"), [("llada", Llada(8, 8, 250)), ("dream", Dream(253, 4))])
def test_a_masked_position_of_a_canvas(engines: Callable[[str], Engine], name: str, policy: Policy, filters: dict[str, Any]) -> None:
    engine, prompt = engines(name), (10, 11, 12, 13)
    sampling = sampling_of(engine, **filters)
    odds = one_mask(engine, prompt, engine.manifest.logit_shift, sampling)
    statistic, most = chi_square(Counter(written(engine, policy, prompt, 1, **filters)), odds)
    assert statistic < most


@pytest.mark.parametrize("filters", FILTERS)
def test_a_masked_position_of_a_block(engines: Callable[[str], Engine], filters: dict[str, Any]) -> None:
    """The last one of SDAR's second block, whose first positions are the prompt's."""
    engine = engines("sdar")
    length, mask = engine.manifest.block_length, engine.manifest.mask_token_id or 0
    prompt = tuple(range(10, 9 + 2 * length))
    span = (length, 2 * length)
    denoise = Passes(span, (span[1] - 1, span[1]), Sees.BLOCKS, block_length=length, wants_logits=True)
    odds = expected_odds(asked(engine, prompt, 1, Prefill(length, Sees.BLOCKS, length), denoise), sampling_of(engine, **filters))
    counts = Counter(line[0] for line in written(engine, BlockDiffusion(length, mask, length), prompt, 1, **filters))
    statistic, most = chi_square(counts, odds)
    assert statistic < most


def verified(engine: Engine, sampling: Sampling) -> tuple[tuple[int, ...], dict[tuple[int, ...], float]]:
    """A prompt that leaves two positions of SDAR's second block, and the odds of both, as blocks of one token would draw them."""
    length = engine.manifest.block_length
    prompt, span, masks = tuple(range(10, 8 + 2 * length)), (length, 2 * length), 2

    def odds(line: tuple[int, ...]) -> dict[int, float]:
        column = len(prompt) + len(line)
        echo = Passes(span, (column, column + 1), Sees.ECHO, wants_logits=True)
        return expected_odds(asked(engine, (*prompt, *line), masks - len(line), Prefill(length, Sees.BLOCKS, length), echo), sampling)

    return prompt, chains(odds, masks)


@pytest.mark.parametrize("filters", [{}, {"top_k": 4, "top_p": 0.8}])
def test_self_speculation_of_block_models_draws_as_the_verifier_would(engines: Callable[[str], Engine], filters: dict[str, Any]) -> None:
    """S2D2 with every draft verified: whatever is drafted, tokens come from blocks of one token, one after the other."""
    engine = engines("sdar")
    length, mask = engine.manifest.block_length, engine.manifest.mask_token_id or 0
    sampling = sampling_of(engine, **filters)
    prompt, odds = verified(engine, sampling)
    policy = SelfSpeculation(length, mask, length, banned_token_ids=sampling.banned_token_ids or ())
    statistic, most = chi_square(Counter(written(engine, policy, prompt, 2, **filters)), odds)
    assert statistic < most


def test_self_speculation_without_the_residual_would_be_noticed(engines: Callable[[str], Engine]) -> None:
    engine = engines("sdar")
    length, mask = engine.manifest.block_length, engine.manifest.mask_token_id or 0
    prompt, odds = verified(engine, sampling_of(engine))
    banned = sampling_of(engine).banned_token_ids or ()
    policy = SelfSpeculation(length, mask, length, banned_token_ids=banned, allow_resample=False)
    statistic, most = chi_square(Counter(written(engine, policy, prompt, 2, count=2 * LINES)), odds)
    assert statistic > most


def test_another_temperature_would_be_noticed(engines: Callable[[str], Engine]) -> None:
    engine, prompt = engines("nemotron_labs_diffusion"), (10, 11, 12, 13)
    lines = Counter(line[0] for line in written(engine, Autoregressive(), prompt, 1))
    statistic, most = chi_square(lines, next_odds(engine, prompt, sampling_of(engine, temperature=5.0)))
    assert statistic > most


OF_EVERY_KIND = [
    ("nemotron_labs_diffusion", None),
    ("nemotron_labs_diffusion", "ar"),
    ("nemotron_labs_diffusion", "self_speculation"),
    ("llada", None),
    ("dream", None),
    ("sdar", None),
    ("sdar", "s2d2"),
    ("llada2", None),
    ("fast_dllm_v2", None),
    ("llada", "remdm"),
    ("llada", "credit"),
]


@pytest.mark.parametrize(("name", "kind"), OF_EVERY_KIND)
def test_draws_depend_on_seed_and_position_alone(engines: Callable[[str], Engine], name: str, kind: Any) -> None:
    """Alone, among others, in another order: the same line. Another seed, or the same prompt one position further: another one."""
    engine = engines(name)
    manifest = engine.manifest
    mode, sampler = (kind, None) if kind in ("ar", "self_speculation") else ("diffusion", kind)
    policy = policy_for(manifest, mode, sampler=sampler)
    rng = random.Random(4)
    words = [i for i in range(3, manifest.vocab_size) if i != manifest.mask_token_id]
    prompts = [tuple(rng.choices(words, k=rng.randrange(1, 20))) for _ in range(24)]

    def lines(seeds: int = 0, first_position: int = 0) -> list[Line]:
        made = [Line(prompt, 12, (), Sampling(4.0, number + seeds, top_k=20, top_p=0.95)) for number, prompt in enumerate(prompts)]
        for line in made:
            line.first_position = first_position
        return made

    together, reverse, alone = lines(), lines(), lines()
    write_together(engine, [(policy, line) for line in together])
    write_together(engine, [(policy, line) for line in reversed(reverse)])
    for line in alone[::3]:
        write_together(engine, [(policy, line)])
    assert [line.tokens for line in reverse] == [line.tokens for line in together]
    assert [line.tokens for line in alone[::3]] == [line.tokens for line in together[::3]]
    for others in (lines(seeds=100), lines(first_position=1)):
        write_together(engine, [(policy, line) for line in others])
        same = sum(one.tokens == other.tokens for one, other in zip(together, others, strict=True))
        assert same <= 2
