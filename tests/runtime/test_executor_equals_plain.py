"""The scheduler's executor against the plain one: any directives, any mixture, any company."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from dlm_runtime.cache import PrefixCache
from dlm_runtime.engines import Engine, FakeEngine, fake_manifest
from dlm_runtime.policies import Decoding, Directive, Extend, Line, Outcome, Passes, Prefill, Rule, Sampling, Speculate
from dlm_runtime.policies.passes import Measure, Sees, Span, Until
from dlm_runtime.policies.plain import run_line
from dlm_runtime.policies.sampler import Bools, Int64, SamplerStep
from dlm_runtime.scheduler.counters import Counters
from dlm_runtime.scheduler.row import Row
from dlm_runtime.scheduler.steps import Steps
from dlm_runtime.scheduler.together import write_together
from dlm_runtime.scheduler.types import Draft, LineRequest

TOLERANCE = 1e-4  # of what the engine measured, in one batch shape and in another


@dataclass(frozen=True, slots=True)
class FromTheRight:
    """Takes as many masks as its rule's quota says and `more`, the last ones first."""

    more: int
    wants_logits: ClassVar[bool] = False
    memory_width: ClassVar[int] = 0

    @property
    def parameters(self) -> tuple[float, ...]:
        return (float(self.more),)

    @staticmethod
    def choose(step: SamplerStep, mask_token_id: int) -> tuple[Int64, Bools]:
        rank = np.cumsum(step.masked[:, ::-1], axis=1)[:, ::-1]
        taken = step.masked & (rank <= (step.quota + step.parameters[:, 0].astype(np.int64))[:, None])
        return np.where(taken, step.sampled, step.tokens), np.zeros(len(step.quota), np.bool_)


@dataclass(frozen=True, slots=True)
class Steady:
    """Takes a position when its likeliest token has been the same `often` times; lets go of every position once; knows when it is done."""

    often: int
    done_after: int
    wants_logits: ClassVar[bool] = True
    memory_width: ClassVar[int] = 2
    edits: ClassVar[bool] = True

    @property
    def parameters(self) -> tuple[float, ...]:
        return (float(self.often), float(self.done_after))

    @staticmethod
    def choose(step: SamplerStep, mask_token_id: int) -> tuple[Int64, Bools]:
        assert step.logits is not None
        assert step.previous_logits is not None
        same = (step.logits.argmax(2) == step.previous_logits.argmax(2)) & step.previous_logits.any(2)
        step.memory[:, :, 0] = np.where(same, step.memory[:, :, 0] + 1, 0)
        taken = step.masked & (step.memory[:, :, 0] + 1 >= step.parameters[:, :1])
        let_go = ~step.masked & step.inside & (step.positions % 5 == 0) & (step.memory[:, :, 1] == 0)
        step.memory[:, :, 1] += let_go
        tokens = np.where(taken, step.likeliest, np.where(let_go, mask_token_id, step.tokens))
        return tokens, step.step >= step.parameters[:, 1]


class RandomDirectives:
    """A policy that asks for whatever may be asked for, decided by `seed` and by what it was told; `told` notes all of that."""

    def __init__(self, seed: int, mask_token_id: int, vocab_size: int, most: int = 7, guides: bool = True) -> None:
        self.rng = random.Random(seed)
        self.mask = mask_token_id
        self.vocab_size = vocab_size
        self.most = most
        self.guides = guides
        self.context = 0
        self.told: list[object] = []

    def decode(self, line: Line) -> Decoding:
        if self.rng.random() < 0.6:
            sees = self.rng.choice((Sees.CAUSAL, Sees.CAUSAL, Sees.BLOCKS, Sees.WHOLE))
            asked = Prefill(self.rng.randint(1, line.prompt_length), sees, self.rng.choice((3, 8)) if sees == Sees.BLOCKS else 1)
            outcome = yield asked
            self.context = asked.stop
            self.told.append(outcome.sampled.tolist())
        line.lay(self.rng.randrange(4, 40), self.mask)
        for _ in range(self.rng.randrange(1, self.most)):
            passes = self.passes(line)
            outcome = yield passes
            self.hear(line, passes, outcome)
            if self.rng.random() < 0.3:
                line.canvas[self.rng.randrange(line.prompt_length, len(line.canvas))] = self.mask
        yield from self.end(line)

    def end(self, line: Line) -> Decoding:
        words = [token_id for token_id in line.canvas[line.prompt_length :].tolist() if token_id != self.mask]
        if self.rng.random() < 0.4:
            line.limit = len(words) + 1
            line.extend([*words, 3, 3])
            return
        line.canvas = line.canvas[: line.prompt_length]
        line.limit = self.rng.randrange(2, 30)
        if line.extend([self.rng.randrange(3, self.vocab_size)]):
            return
        directive: Directive = Extend(line.tokens[-1])
        if self.rng.random() < 0.6:
            directive = Speculate(line.tokens[-1], self.rng.randrange(1, 9), self.rng.choice((0.0, 0.7)), self.rng.random() < 0.3)
        outcome = yield directive
        self.told.append((outcome.passes, outcome.tokens))
        line.extend(outcome.tokens)

    def passes(self, line: Line) -> Passes:
        rng = self.rng
        query = self.span(0, len(line.canvas))
        crop = rng.choice((None, None, rng.randint(0, self.context)))
        self.context = self.context if crop is None else min(crop, self.context)
        window, sees, rule = self.span(*query), rng.choice(list(Sees)), self.rule()
        cuts = rule.sampler is None and rng.random() < 0.3
        keep = () if rng.random() < 0.5 or cuts else tuple(self.span(*query) for _ in range(rng.randrange(1, 3)))
        return Passes(
            query,
            window,
            sees,
            rule,
            rng.choice(list(Until)),
            rng.randrange(1, 6),
            crop=crop,
            keep=keep,
            shift=rng.randrange(2),
            first_step=rng.choice((0, 0, 3)),
            guided=self.guides and not self.context and rng.random() < 0.5,
            cut_at_end=cuts,
            next_token=rng.random() < 0.15,
            causal_head=rng.choice((0, 0, 2)),
            block_length=rng.choice((1, 3, 8)),
            wants_confidence=rng.random() < 0.3,
            wants_logits=rng.random() < 0.2,
        )

    def rule(self) -> Rule:
        rng = self.rng
        return Rule(
            quotas=rng.choice(((1,), (2, 1, 0), (0,), (0, 3), (5,))),
            threshold=rng.choice((2.0, 0.9, 0.6)),
            factor=rng.choice((0.0, 0.0, 1.0)),
            takes_last=rng.random() < 0.2,
            measure=rng.choice(list(Measure)),
            alg_temperature=rng.choice((0.0, 0.0, 0.3)),
            tempered=rng.random() < 0.3,
            sampler=rng.choice((None, None, None, FromTheRight(0), FromTheRight(2), Steady(2, 9), Steady(1, 2))),
            scales=rng.choice(((1.0,), (0.7, 1.3))),
        )

    def span(self, first: int, stop: int) -> Span:
        start = self.rng.randrange(first, stop)
        return (start, self.rng.randint(start + 1, stop))

    def hear(self, line: Line, asked: Passes, outcome: Outcome) -> None:
        self.context += sum(stop - start for start, stop in asked.keep)
        certain = asked.next_token or asked.wants_confidence or asked.wants_logits
        sampled = outcome.sampled.tolist() if certain and not asked.cut_at_end else None
        self.told.append((asked, outcome.passes, sampled, line.canvas.tolist()))
        self.told += [None if array is None or asked.cut_at_end else array.copy() for array in (outcome.confidence, outcome.logits)]


Pairs = list[tuple[RandomDirectives, Line]]


def policies(engine: Engine, count: int, seed: int, temperatures: Sequence[float], guides: bool = True) -> Pairs:
    manifest, pairs = engine.manifest, Pairs()
    assert manifest.mask_token_id is not None
    for number in range(count):
        rng = random.Random(seed * 1000 + number)
        avoided = {manifest.mask_token_id, *manifest.eos_token_ids}
        words = [token_id for token_id in range(manifest.vocab_size) if token_id not in avoided]
        prompt = tuple(rng.choices(words, k=rng.randrange(1, 30)))
        sampling = Sampling(
            temperature=rng.choice(temperatures),
            seed=number,
            top_k=rng.choice((0, 0, 5)),
            top_p=rng.choice((1.0, 1.0, 0.8)),
            repetition_penalty=rng.choice((1.0, 1.0, 1.5)),
            guidance=rng.choice((0.0, 0.5)),
            guidance_keeps=tuple(prompt[:2]),
            banned_token_ids=rng.choice((None, None, (), tuple(words[:40]))),
        )
        policy = RandomDirectives(number + seed, manifest.mask_token_id, manifest.vocab_size, guides=guides)
        origin = rng.choice((0, 0, -2))
        line = Line(prompt, 10, manifest.eos_token_ids, sampling, first_position=rng.choice((0, 0, 3)), block_origin=origin)
        pairs.append((policy, line))
    return pairs


def assert_same(found: list[object], expected: list[object], number: int) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        if isinstance(other, np.ndarray) and isinstance(one, np.ndarray):
            np.testing.assert_allclose(one, other, atol=TOLERANCE, err_msg=f"line {number}")
        else:
            assert one == other, f"line {number}"


def compare(engine: Engine, make: Callable[[], Pairs]) -> None:
    expected = make()
    passes = [run_line(engine, policy, line).passes for policy, line in expected]
    found = make()
    written = write_together(engine, found, prefill_step_tokens=40)
    for number, ((policy, line), (alone, plain)) in enumerate(zip(found, expected, strict=True)):
        assert_same(policy.told, alone.told, number)
        assert (line.tokens, line.ending) == (plain.tokens, plain.ending), f"line {number}"
        counts = [count for name, count in written[number].passes if name != "Prefill"]
        assert counts == passes[number][len(passes[number]) - len(counts) :]


@pytest.mark.parametrize("seed", range(6))
def test_any_directives_without_a_model(seed: int) -> None:
    """The engine without a model does no guidance, so nothing is guided here."""
    engine = FakeEngine(fake_manifest(banned_token_ids=(96,)))
    compare(engine, lambda: policies(engine, 60, seed, (0.0,), guides=False))


@pytest.mark.parametrize("seed", range(3))
def test_any_directives_on_a_model(seed: int, golden_engine: Engine) -> None:
    compare(golden_engine, lambda: policies(golden_engine, 50, seed, (0.0, 0.8, 1.2)))


def test_keys_and_values_in_half_precision_and_of_many_shapes() -> None:
    changes = {"layers": 3, "layer_caches": ((1, 2), (2, 3), (1, 2)), "cache_type": "float16"}
    engine = FakeEngine(fake_manifest().model_copy(update=changes))
    compare(engine, lambda: policies(engine, 30, 9, (0.0,), guides=False))


def test_alone_and_among_63_others(golden_engine: Engine) -> None:
    """A line with temperature, which a batch must not lend its dice."""
    crowd = policies(golden_engine, 64, 40, (1.0,))
    write_together(golden_engine, crowd)
    for number in (0, 20, 63):
        policy, line = policies(golden_engine, 64, 40, (1.0,))[number]
        write_together(golden_engine, [(policy, line)])
        assert line.tokens == crowd[number][1].tokens
        assert_same(policy.told, crowd[number][0].told, number)


def test_rows_come_and_go() -> None:
    """They arrive in the middle of others' directives, some leave before they are done, and nobody else notices."""
    engine = FakeEngine()
    expected = policies(engine, 150, 70, (0.0,), guides=False)
    for policy, line in expected:
        run_line(engine, policy, line)
    found = policies(engine, 150, 70, (0.0,), guides=False)
    requests = [LineRequest((0,), drafts=number % 3 == 0) for number in range(len(found))]
    rows = [
        Row(request, "diffusion", lambda event: None, lambda: None, policy, line)
        for request, (policy, line) in zip(requests, found, strict=True)
    ]
    rng, steps, waiting = random.Random(0), Steps(engine, PrefixCache(2**16), Counters(), 60), list(rows)
    while waiting or len(steps):
        count = rng.randrange(9)
        arriving, waiting = waiting[:count], waiting[count:]
        assert not steps.admit(arriving)
        for _ in steps.run():
            if rng.random() < 0.2 and (running := [row for row in rows if not row.ended and row not in waiting]):
                rng.choice(running).cancelled = True
            for row in steps.take_cancelled():
                row.finish("cancelled")
    whole = [number for number, row in enumerate(rows) if not row.cancelled]
    assert 20 < len(whole) < 130
    for number in whole:
        assert_same(found[number][0].told, expected[number][0].told, number)
        assert found[number][1].tokens == expected[number][1].tokens
    for number in set(range(len(rows))) - set(whole):
        line = found[number][1]
        assert line.tokens == expected[number][1].tokens[: len(line.tokens)], "what a cancelled line has is right as far as it goes"


@dataclass(frozen=True)
class TwoBlocks:
    """Fills in two blocks of eight by `rule`, and settles them only at the end."""

    rule: Rule

    def decode(self, line: Line) -> Decoding:
        first = line.prompt_length
        line.lay(16, 1)
        for start in (first, first + 8):
            yield Passes((0, first + 16), (start, start + 8), Sees.WHOLE, self.rule, Until.CLEAN, 20)
        line.extend(line.canvas[first:].tolist())


@pytest.mark.parametrize(("rule", "edits"), [(Rule(), False), (Rule(sampler=Steady(3, 30)), True)])
def test_what_is_shown_as_final_does_not_change(rule: Rule, edits: bool) -> None:
    """A sampler that may change its mind leaves a block's tokens open until the block is left."""
    drafts: list[Draft] = []

    def listen(event: object) -> None:
        if isinstance(event, Draft):
            drafts.append(event)

    engine = FakeEngine(fake_manifest(eos_token_ids=(96,)), script=lambda ids: 10 + len(ids) % 50)
    steps, line = Steps(engine, PrefixCache(0), Counters(), 60), Line((5, 6, 7), 16, (96,))
    steps.admit([Row(LineRequest((0,), drafts=True), "diffusion", listen, lambda: None, TwoBlocks(rule), line)])
    while len(steps):
        list(steps.run())
    assert len(drafts) > 5
    for draft in drafts:
        final = [(place, token_id) for place, token_id in enumerate(draft.token_ids) if draft.frozen[place]]
        assert all(line.tokens[place] == token_id for place, token_id in final)
    partly = [draft for draft in drafts if any(draft.frozen[:8]) and not all(draft.frozen[:8])]
    assert bool(partly) != edits
    assert any(draft.frozen.count(True) == 8 for draft in drafts)
