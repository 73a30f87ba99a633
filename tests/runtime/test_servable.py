"""Which loop writes a model's lines, and what is said where none can."""

from __future__ import annotations

from typing import Any

import pytest
from dlm_runtime.bundle import Manifest
from dlm_runtime.engines import FakeEngine, fake_manifest
from dlm_runtime.errors import BundleError, RequestError
from dlm_runtime.policies import check_servable, policy_for
from dlm_runtime.policies.autoregressive import Autoregressive
from dlm_runtime.policies.bd3lm import BlockSampler
from dlm_runtime.policies.choose import LOOPS, loops_of
from dlm_runtime.policies.diffusion import ThresholdDiffusion
from dlm_runtime.policies.diffusion_gemma import CanvasDiffusion
from dlm_runtime.policies.fast_dllm_v2 import SubBlockDiffusion
from dlm_runtime.policies.llada2 import LLaDA2, LLaDA21
from dlm_runtime.policies.s2d2 import SelfSpeculation
from dlm_runtime.policies.sdar import BlockDiffusion
from dlm_runtime.policies.self_speculation import LinearSelfSpeculation
from dlm_runtime.scheduler import LineRequest, Scheduler, write_line

BLOCKS = {"context_mask": "block_causal"}
ALL = {"context_mask": "bidirectional"}
OWN: list[tuple[str, dict[str, Any], str]] = [
    ("nemotron_labs_diffusion", {}, "nemotron_diffusion"),
    ("sdar", BLOCKS, "sdar"),
    ("sdar_moe", BLOCKS, "sdar"),
    ("llada2", BLOCKS, "llada2"),
    ("fast_dllm_v2", BLOCKS | {"logit_shift": 1}, "fast_dllm_v2"),
    ("a2d_qwen3", BLOCKS, "dllm_bd3lm"),
    ("bd3lm", BLOCKS, "dllm_bd3lm"),
    ("diffusion_gemma", {"mask_token_id": None}, "diffusion_gemma"),
    ("llada", ALL, "llada"),
    ("llada_moe", ALL, "llada"),
    ("dream", ALL | {"logit_shift": 1}, "dream"),
    ("a2d_qwen3", ALL, "dllm_mdlm"),
    ("bert", ALL, "dllm_mdlm"),
    ("mdlm", ALL, "dllm_mdlm"),
]
NO_LOOP: list[dict[str, Any]] = [{"mask_token_id": None}, {"logit_shift": 1}, {"context_mask": "block_causal", "mask_token_id": None}]


def manifest_of(family: str, changes: dict[str, Any]) -> Manifest:
    return fake_manifest(block_length=8).model_copy(update={"family": family, **changes})


@pytest.mark.parametrize(("family", "changes", "name"), OWN)
def test_a_family_has_its_own_loop(family: str, changes: dict[str, Any], name: str) -> None:
    manifest = manifest_of(family, changes)
    check_servable(manifest)
    assert loops_of(manifest)[0] == name
    assert policy_for(manifest, "diffusion") == policy_for(manifest, "diffusion", sampler=name)


def test_loops_are_made_with_the_published_numbers() -> None:
    made = {
        "nemotron_diffusion": ThresholdDiffusion(8, 1, 0.7),
        "sdar": BlockDiffusion(8, 1, 8, "low_confidence_dynamic", 0.7),
        "sdar_static": BlockDiffusion(8, 1, 8, "low_confidence_static", 0.7),
        "sdar_sequential": BlockDiffusion(8, 1, 8, "sequential", 0.7),
        "s2d2": SelfSpeculation(8, 1, 8, threshold=0.7, banned_token_ids=(1,)),
        "llada2": LLaDA2(8, 1, 0.7, steps=8),
        "llada21": LLaDA21(8, 1, 0.7, editing_threshold=0.9, max_post_steps=16),
        "fast_dllm_v2": SubBlockDiffusion(8, 1, 8, 0.7),
        "dllm_bd3lm": BlockSampler(8, 1, steps_per_block=8, threshold=0.7),
        "diffusion_gemma": CanvasDiffusion(8, 97, 0.1, 48, 0.4, 0.8, 1, 0.005),
    }
    manifest = manifest_of("any", {})
    assert {loop.name: loop.make(manifest, 0.7) for loop in LOOPS if loop.name in made} == made


def test_modes_have_policies_of_their_own() -> None:
    manifest = fake_manifest(block_length=8)
    assert policy_for(manifest, "ar") == Autoregressive()
    assert policy_for(manifest, "self_speculation") == LinearSelfSpeculation(8, 1)
    assert policy_for(manifest, "diffusion") == ThresholdDiffusion(8, 1, manifest.default_threshold)
    assert policy_for(manifest, "diffusion", 0.25) == ThresholdDiffusion(8, 1, 0.25)
    assert policy_for(manifest, "ar", sampler="nemotron_diffusion") == policy_for(manifest, "diffusion")


def test_names_are_unique_and_a_wrong_one_is_answered_with_those_that_fit() -> None:
    for family, changes, _ in OWN:
        names = loops_of(manifest_of(family, changes))
        assert len(set(names)) == len(names)
    loops = "llada2, llada21, dllm_bd3lm, hierarchy, credit, klass, dus, remdm"
    with pytest.raises(RequestError, match=rf"^sampler='sdar': this model can be decoded with {loops}$"):
        policy_for(manifest_of("llada2", BLOCKS), "diffusion", sampler="sdar")
    with pytest.raises(RequestError, match=r"^sampler='sdar': "):
        write_line(FakeEngine(), LineRequest((5, 6), sampler="sdar"))


def test_guidance_is_refused_where_it_would_do_nothing() -> None:
    for request in (LineRequest((5, 6), guidance=1.0), LineRequest((5, 6), mode="ar", guidance=1.0)):
        with pytest.raises(RequestError, match=r"^guidance=1.0: give 0: the loop nemotron_diffusion and "):
            write_line(FakeEngine(), request)


@pytest.mark.parametrize("change", NO_LOOP)
def test_a_model_that_no_loop_fits(change: dict[str, Any]) -> None:
    manifest = fake_manifest().model_copy(update=change)
    said = "has family='fake', context_mask='.*', logit_shift=. and mask_token_id=.*, and this release has no decoding loop"
    with pytest.raises(BundleError, match=f"^folder/manifest.json: {said}"):
        check_servable(manifest, "folder/manifest.json")
    with pytest.raises(BundleError, match=f"^manifest.json: {said}"):
        policy_for(manifest, "ar")
    engine = FakeEngine(manifest)
    with pytest.raises(BundleError, match=said):
        Scheduler(engine)
    with pytest.raises(BundleError, match=said):
        write_line(engine, LineRequest((5, 6)))
    assert engine.steps == 0
