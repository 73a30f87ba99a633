"""Samplers by their names, in the loops of every family and among rows of others."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dlm_runtime.bundle import Bundle, Manifest
from dlm_runtime.engines import Engine, FakeEngine, OnnxEngine
from dlm_runtime.errors import RequestError
from dlm_runtime.policies import Line, Policy, Prefill, Sampling, policy_for
from dlm_runtime.policies.choose import loop_for, loops_of
from dlm_runtime.policies.credit import Credit
from dlm_runtime.policies.dilated import Dilated
from dlm_runtime.policies.hierarchy import Hierarchy
from dlm_runtime.policies.klass import Klass
from dlm_runtime.policies.plain import run_line
from dlm_runtime.policies.remasking import Remasking
from dlm_runtime.policies.sampler import Sampler
from dlm_runtime.policies.with_sampler import WithSampler
from dlm_runtime.scheduler import LineRequest, write_line
from dlm_runtime.scheduler.together import write_together

NAMES = ("hierarchy", "credit", "klass", "dus", "remdm")
SHARP: list[tuple[Sampler, bool]] = [  # with random weights nothing is sure of anything, so the thresholds are low; and whether it runs on
    (Hierarchy(0.04, 0.015), False),
    (Credit(0.05), False),
    (Klass(0.02, 0.05, 2), False),
    (Dilated(), False),
    (Dilated(3, 0.02), False),
    (Remasking(256, 0.1), True),
    (Remasking(256, 0.05, 12), True),
]


@pytest.fixture(scope="module")
def engines(members: Callable[[str], Any]) -> Iterator[Callable[[str], Engine]]:
    """One engine per golden checkpoint, made when needed."""
    made: dict[str, Engine] = {}

    def engine(name: str) -> Engine:
        return made.setdefault(name, OnnxEngine(Bundle.load(Path(members(name).bundle)), threads=1))

    yield engine
    for one in made.values():
        one.close()


def lines_of(manifest: Manifest, count: int, seed: int, temperatures: tuple[float, ...] = (0.0,)) -> list[Line]:
    """Random prompts and limits; a random word ends a line."""
    rng = random.Random(seed)
    words = [i for i in range(3, manifest.vocab_size) if i != manifest.mask_token_id]
    return [
        Line(
            tuple(rng.choices(words, k=rng.randrange(1, 24))),
            rng.randrange(1, 40),
            tuple(rng.sample(words, 1)),
            Sampling(rng.choice(temperatures), rng.randrange(2**40)),
        )
        for _ in range(count)
    ]


def over(manifest: Manifest, sampler: Sampler, runs_on: bool) -> Policy:
    own = loop_for(manifest, None).make(manifest, manifest.default_threshold)
    return WithSampler(own, lambda line: sampler, runs_on, isinstance(sampler, Credit), getattr(sampler, "steps", 0))


MODELS = ["llada", "llada_moe", "dream", "sdar", "llada2", "fast_dllm_v2", "a2d_qwen3", "mdlm", "bd3lm", "bert", "nemotron_labs_diffusion"]


@pytest.mark.parametrize("name", MODELS)
def test_any_family_alone_and_among_rows_of_other_samplers(engines: Callable[[str], Engine], name: str) -> None:
    """Every name, sharper numbers and the family's own loop, at several temperatures: no row notices the others."""
    engine = engines(name)
    manifest = engine.manifest
    kinds = [(policy_for(manifest, "diffusion", sampler=one), one) for one in NAMES]
    kinds += [(over(manifest, *one), one[0].__class__.__name__) for one in SHARP] + [(policy_for(manifest, "diffusion"), "own")]
    kinds = [kind for kind in kinds for _ in range(2)]
    temperatures = (0.0, 0.0, 0.8)
    alone, together = (lines_of(manifest, len(kinds), 9, temperatures) for _ in range(2))
    written = write_together(engine, [(policy, line) for (policy, _), line in zip(kinds, together, strict=True)])
    for number, (policy, kind) in enumerate(kinds):
        one = run_line(engine, policy, alone[number])
        assert (together[number].tokens, together[number].ending) == (alone[number].tokens, alone[number].ending), (kind, number)
        passes = [count for asked, count in zip(one.directives, one.passes, strict=True) if not isinstance(asked, Prefill)]
        assert [count for asked, count in written[number].passes if asked != "Prefill"] == passes, (kind, number)
        assert manifest.mask_token_id not in together[number].tokens


def test_a_request_names_its_sampler(engines: Callable[[str], Engine]) -> None:
    for engine in (engines("llada"), engines("nemotron_labs_diffusion"), FakeEngine()):
        assert loops_of(engine.manifest)[-len(NAMES) :] == NAMES
        for name in NAMES:
            request = LineRequest((5, 6, 7), max_new_tokens=20, sampler=name, seed=3)
            line = Line(request.prompt_ids, 20, engine.manifest.eos_token_ids, request.sampling)
            run_line(engine, policy_for(engine.manifest, "diffusion", sampler=name), line)
            assert write_line(engine, request).token_ids == line.text_ids


def test_dus_takes_few_passes(engines: Callable[[str], Engine]) -> None:
    """A block of 8 in 3, however unsure the model is."""
    engine = engines("llada")
    manifest = engine.manifest.model_copy(update={"block_length": 8})
    line = Line((5, 6, 7), 32, ())
    assert run_line(engine, policy_for(manifest, "diffusion", sampler="dus"), line).passes == [3, 3, 3, 3]


def test_guidance_goes_with_samplers_that_do_not_read_raw_logits(engines: Callable[[str], Engine]) -> None:
    engine = engines("llada")
    for name in NAMES:
        request = LineRequest((5, 6, 7), max_new_tokens=9, sampler=name, guidance=0.5)
        if name in ("credit", "klass"):
            with pytest.raises(RequestError, match=rf"^guidance=0.5: give 0: the loop {name} "):
                write_line(engine, request)
        else:
            assert write_line(engine, request).tokens == 9
    with pytest.raises(RequestError, match=r"^guidance=0.5"):
        write_line(engines("nemotron_labs_diffusion"), LineRequest((5,), sampler="dus", guidance=0.5))


def test_thresholds_reach_the_samplers_that_have_one() -> None:
    manifest = FakeEngine().manifest
    for name, kind in (("hierarchy", Hierarchy), ("credit", Credit)):
        policy = policy_for(manifest, "diffusion", 0.25, sampler=name)
        assert isinstance(policy, WithSampler)
        sampler = policy.sampler_for(Line((5,), 4, (), Sampling(0.5)))
        assert sampler == replace(kind(threshold=0.25), **({"temperature": 0.5} if kind is Credit else {}))
