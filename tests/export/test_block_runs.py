"""Recorded runs of the published block loops: the same tokens in as many forward passes, alone and in one batch with the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dlm_export.verify.sampler_runs import RecordedRun, UnsupportedRun, prepare
from dlm_export.verify.samples import verify_samples
from dlm_runtime.bundle import Bundle, Manifest

TESTS = Path(__file__).parents[1]
FIXTURES = TESTS / "fixtures"
RUNS = {"nemotron_labs_diffusion": 10, "sdar": 11, "llada2": 5, "llada21": 4, "fast_dllm_v2": 5, "diffusion_gemma": 3}
MORE_RUNS = {"nemotron_labs_diffusion": 43, "sdar": 28, "llada2": 15, "llada21": 14, "fast_dllm_v2": 25, "diffusion_gemma": 18}


@pytest.mark.parametrize("name", RUNS)
def test_every_recorded_run(members: Callable[[str], Any], name: str) -> None:
    report = verify_samples(Bundle.load(members(name).bundle), FIXTURES / name)
    assert [result.sentences() for result in report.results if not result.equal] == []
    assert len(report.results) == RUNS[name]


@pytest.mark.parametrize("name", MORE_RUNS)
def test_runs_with_other_parameters(members: Callable[[str], Any], name: str) -> None:
    report = verify_samples(Bundle.load(members(name).bundle), TESTS / "recordings" / name)
    assert [result.sentences() for result in report.results if not result.equal] == []
    assert len(report.results) == MORE_RUNS[name]


def test_every_recorded_run_of_dllms_block_sampler(members: Callable[[str], Any]) -> None:
    report = verify_samples(Bundle.load(members("a2d_qwen3").bundle), FIXTURES / "a2d_qwen3")
    results = [result for result in report.results if result.sampler == "dllm_bd3lm"]
    assert [result.sentences() for result in results if not result.equal] == []
    assert len(results) == 5


WRONG: list[tuple[str, str, dict[str, Any], str]] = [
    ("sdar", "dynamic_3", {"remasking_strategy": "entropy_bounded"}, "its entropies are not those of a distribution"),
    ("sdar", "dynamic_3", {"temperature": 0}, "temperature=0 .* divides by it"),
    ("sdar", "dynamic_3", {"mask_id": 3}, "mask_id=3 .* the bundle's mask is 249"),
    ("sdar", "s2d2_ssd", {"do_verify_policy": "always"}, "rule='always' is not one of mask_span_length, "),
    ("sdar", "s2d2_ssd", {"token_acceptance_estimator": "none"}, "estimator='none' is not one of "),
    ("sdar", "s2d2_ssd", {"do_sample": True, "temperature": 1.0}, "do_sample=True .* cannot be repeated"),
    ("sdar", "s2d2_ssd", {"new_switch": 3}, "new_switch=3 .* known parameters are"),
    ("llada2", "threshold_0", {"temperature": 0.5}, "temperature=0.5 .* cannot be repeated"),
    ("llada21", "edit_0", {"num_to_transfer": 0}, "num_to_transfer=0 .* a whole number from 1"),
    ("fast_dllm_v2", "block_decode_0", {"block_size": 12}, "block_size=12 .* a divisor of 32"),
    ("fast_dllm_v2", "block_decode_0", {"small_block_size": 3}, "sub_block_length=3 must divide self.block_length=8"),
    ("fast_dllm_v2", "block_decode_0", {"block_size": 5, "small_block_size": 5}, "block_size=5 .* a divisor of 32"),
    ("nemotron_labs_diffusion", "generate_0", {"max_new_tokens": 20}, "max_new_tokens=20 .* whole blocks of 8"),
    ("diffusion_gemma", "entropy_bound_0", {"entropy_bound": 0}, "entropy_bound=0 must be above 0"),
    ("diffusion_gemma", "entropy_bound_0", {"t_min": 0.9}, "t_min=0.9 must be at least 0 and below"),
    ("a2d_qwen3", "bd3lm_0", {"remasking": "random"}, "remasking='?random'? .* cannot be recorded"),
]


@pytest.mark.parametrize(("name", "run", "params", "said"), WRONG)
def test_parameters_that_cannot_be_followed(
    changed: Callable[..., tuple[RecordedRun, Manifest]], name: str, run: str, params: dict[str, Any], said: str
) -> None:
    with pytest.raises((UnsupportedRun, ValueError), match=said):
        prepare(*changed(name, run, **params))


def test_recorded_random_canvases_are_needed(changed: Callable[..., tuple[RecordedRun, Manifest]]) -> None:
    run, manifest = changed("diffusion_gemma", "entropy_bound_0")
    with pytest.raises(UnsupportedRun, match="calls=missing is not supported"):
        prepare(replace(run, fields={}), manifest)
