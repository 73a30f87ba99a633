"""Recorded runs of the published loops over one bidirectional canvas: the same tokens, canvases and forward passes, alone and mixed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dlm_export.verify.sampler_runs import RecordedRun, UnknownSampler, UnsupportedRun, prepare
from dlm_export.verify.samples import run_again, verify_samples
from dlm_export.verify.samples_file import read_samples
from dlm_runtime.bundle import Bundle, Manifest
from dlm_runtime.engines import OnnxEngine

TESTS = Path(__file__).parents[1]
RUNS = {"llada": 26, "llada_moe": 2, "dream": 17, "bert": 2, "modernbert": 2}
MORE_RUNS = {"llada": 57, "llada_moe": 13, "dream": 47, "a2d_qwen3": 20, "bert": 9, "modernbert": 9}


@pytest.mark.parametrize("name", RUNS)
def test_every_recorded_run(members: Callable[[str], Any], name: str) -> None:
    report = verify_samples(Bundle.load(members(name).bundle), TESTS / "fixtures" / name)
    assert report.sentences() == [f"{RUNS[name]} equal, 0 different"]


@pytest.mark.parametrize("name", MORE_RUNS)
def test_runs_with_other_parameters(members: Callable[[str], Any], name: str) -> None:
    report = verify_samples(Bundle.load(members(name).bundle), TESTS / "recordings" / name)
    assert report.sentences() == [f"{MORE_RUNS[name]} equal, 0 different"]


def test_runs_of_dllms_sampler(members: Callable[[str], Any]) -> None:
    bundle = Bundle.load(members("a2d_qwen3").bundle)
    runs = [run for run in read_samples(TESTS / "fixtures" / "a2d_qwen3", bundle.manifest.vocab_size) if run.sampler == "dllm_mdlm"]
    engine = OnnxEngine(bundle, threads=1)
    results = run_again(engine, runs)
    engine.close()
    assert [result.sentences() for result in results if not result.equal] == []
    assert len(results) == 6


WRONG: list[tuple[str, str, dict[str, Any], str]] = [
    ("llada", "low_confidence_0", {"remasking": "random"}, "remasking='random' is not supported; the order of `random` cannot be recorded"),
    ("llada", "low_confidence_0", {"temperature": 0.5}, "temperature=0.5 is not supported; draws of the reference cannot be repeated"),
    ("llada", "low_confidence_0", {"mask_id": 7}, "mask_id=7 is not supported; the bundle's mask is 250"),
    ("llada", "low_confidence_0", {"steps": "8"}, "steps='8' is not supported; a whole number from 1 to 65536 is needed"),
    ("llada", "low_confidence_0", {"block_length": 0}, "block_length=0 is not supported; a whole number from 1"),
    ("llada", "low_confidence_0", {"new_switch": 3}, "new_switch=3 is not supported; known parameters are block_length, "),
    ("llada", "low_confidence_0", {"logits_eos_inf": True}, "eos_id=126081 is not supported; the bundle has 256 tokens"),
    ("llada", "cfg_0", {"confidence_eos_eot_inf": True, "eos_id": 1, "eot_id": 2}, "it cannot be combined with cfg_scale"),
    ("llada", "cfg_0", {"cfg_scale": -1.0}, "guidance=-1.0 must be at least 0"),
    ("llada", "fastdllm_v1_none_quota", {"threshold": "high"}, "threshold='high' is not supported; a number is needed"),
    ("llada", "dllm_mdlm_0", {"stochastic_transfer": True}, "stochastic_transfer=True"),
    ("llada", "dllm_mdlm_0", {"scheduler": "square"}, "scheduler='square' is not supported; known are linear, cosine"),
    ("llada", "dllm_mdlm_0", {"begin_suppress_tokens": list(range(9))}, "must be 1 to 8 token ids"),
    ("llada", "dllm_mdlm_0", {"suppress_tokens": 5}, "suppress_tokens=5 is not supported; a list of token ids"),
    ("llada", "dllm_fastdllm_factor", {"use_cache": "both"}, "use_cache='both' is not supported; known are None, none, prefix, dual"),
    ("dream", "entropy_0", {"alg": "origin"}, "alg='origin' is not supported; it draws at random what to fill in"),
    ("dream", "entropy_0", {"alg": "best"}, "alg='best' is not supported; known are maskgit_plus"),
    ("dream", "entropy_0", {"alg_temp": 0.3}, "alg_temp=0.3"),
    ("dream", "entropy_0", {"top_p": -0.5}, "top_p=-0.5 must be above 0"),
    ("dream", "entropy_0", {"eps": 1.5}, "eps=1.5 must be above 0 and below 1"),
    ("dream", "fastdllm_v1_dual_threshold_0.9", {"dual_cache": False}, "dual_cache=False is not supported; the sampler's name says dual"),
]


@pytest.mark.parametrize(("name", "run", "params", "said"), WRONG)
def test_parameters_that_cannot_be_followed(
    changed: Callable[..., tuple[RecordedRun, Manifest]], name: str, run: str, params: dict[str, Any], said: str
) -> None:
    with pytest.raises((UnsupportedRun, ValueError), match=said):
        prepare(*changed(name, run, **params))


def test_padding_stands_on_the_left(changed: Callable[..., tuple[RecordedRun, Manifest]]) -> None:
    run, manifest = changed("llada", "left_pad_batch")
    right = replace(run, attention_mask=[row[::-1] for row in run.attention_mask or []])
    with pytest.raises(UnsupportedRun, match="padding stands on the left"):
        prepare(right, manifest)


def test_rows_of_a_dream_batch_have_as_many_masks(changed: Callable[..., tuple[RecordedRun, Manifest]]) -> None:
    run, manifest = changed("dream", "left_pad_batch")
    masked = [[*run.prompt_ids[0][:-1], manifest.mask_token_id or 0], run.prompt_ids[1]]
    with pytest.raises(UnsupportedRun, match=r"masks in prompt_ids=\[0, 1\] is not supported"):
        prepare(replace(run, prompt_ids=masked), manifest)


def test_an_unknown_sampler_is_named_with_those_that_are_known(changed: Callable[..., tuple[RecordedRun, Manifest]]) -> None:
    run, manifest = changed("dream", "entropy_0")
    with pytest.raises(UnknownSampler, match=r"no sampler is called 'guess'. Known ones are .*dream, .*llada"):
        prepare(replace(run, sampler="guess"), manifest)


def test_prompts_that_were_cut_are_padded_on_the_left(members: Callable[[str], Any]) -> None:
    """One of dllm's runs for Dream, told in the way of its other samplers."""
    bundle = Bundle.load(members("dream").bundle)
    runs = read_samples(TESTS / "recordings" / "dream", bundle.manifest.vocab_size)
    run = next(run for run in runs if run.id == "margin_uneven")
    lengths = [sum(mask) for mask in run.attention_mask or []]
    cut = [prompt[-length:] + [9] * (len(prompt) - length) for prompt, length in zip(run.prompt_ids, lengths, strict=True)]
    told = replace(run, prompt_ids=cut, attention_mask=None, params=run.params | {"prompt_lengths": lengths})
    engine = OnnxEngine(bundle, threads=1)
    (result,) = run_again(engine, [told])
    engine.close()
    assert result.sentences() == []


def test_runs_may_share_an_id(members: Callable[[str], Any]) -> None:
    bundle = Bundle.load(members("llada_moe").bundle)
    first, second = read_samples(TESTS / "fixtures" / "llada_moe", bundle.manifest.vocab_size)
    engine = OnnxEngine(bundle, threads=1)
    results = run_again(engine, [first, replace(second, id=first.id), replace(first, sampler="guess")])
    engine.close()
    assert [result.equal for result in results] == [True, True, False]


def test_an_engine_that_fails_counts_as_different(members: Callable[[str], Any]) -> None:
    bundle = Bundle.load(members("llada_moe").bundle)
    runs = read_samples(TESTS / "fixtures" / "llada_moe", bundle.manifest.vocab_size)
    engine = OnnxEngine(bundle, threads=1)
    engine.close()
    results = run_again(engine, runs)
    assert [result.equal for result in results] == [False, False]
    assert results[0].sentences()[0].startswith("low_confidence_0 (llada), alone: ")
