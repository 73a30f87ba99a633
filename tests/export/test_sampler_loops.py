"""Samplers by their names, in the loops of every family and among rows of others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from dlm_runtime.engines import Engine, FakeEngine
from dlm_runtime.errors import RequestError
from dlm_runtime.policies import Line, Prefill, Sampling, policy_for
from dlm_runtime.policies.choose import loops_of
from dlm_runtime.policies.credit import Credit
from dlm_runtime.policies.hierarchy import Hierarchy
from dlm_runtime.policies.plain import run_line
from dlm_runtime.policies.with_sampler import WithSampler
from dlm_runtime.scheduler import LineRequest, write_line
from dlm_runtime.scheduler.together import write_together
from random_lines import lines_of
from sharp_samplers import SHARP, over

NAMES = ("hierarchy", "credit", "klass", "dus", "remdm")
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
