"""The policies against the published loops: token for token, and with as many forward passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dlm_runtime.engines import Engine, StepBatch, StepResult
from dlm_runtime.policies import Autoregressive, Line, LinearSelfSpeculation, Policy, ThresholdDiffusion
from dlm_runtime.scheduler import LineRequest, write_line

MASK = 100
RUNS = [
    "generate_0",
    "generate_1",
    "generate_2",
    "generate_3",
    "generate_eos",
    "ar",
    "linear_spec_0",
    "linear_spec_1",
]


class Recorder:
    """An engine that notes whether each step was causal."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.manifest = engine.manifest
        self.causal: list[bool] = []

    def step(self, batch: StepBatch) -> StepResult:
        self.causal.append(bool(batch.block_ids[0, -1]))  # runs of a single token do not come up
        return self.engine.step(batch)

    def close(self) -> None:
        pass


def policy_of(sample: dict[str, Any]) -> Policy:
    params = sample["params"]
    if sample["sampler"] == "nemotron_diffusion":
        return ThresholdDiffusion(params["block_length"], MASK, params["threshold"], params["causal_context"], as_published=True)
    if sample["sampler"] == "nemotron_linear_spec":
        return LinearSelfSpeculation(params["block_length"], MASK, params["threshold"], as_published=True)
    return Autoregressive()


def write(engine: Engine, sample: dict[str, Any], row: int = 0) -> tuple[list[int], int]:
    """Tokens after the prompt, and the number of forward passes."""
    params, prompt = sample["params"], sample["prompt_ids"][row]
    overshoots = sample["sampler"] == "nemotron_linear_spec"
    line = Line(prompt, params["max_new_tokens"], (params["eos_token_id"],), overshoots=overshoots)
    request = LineRequest(tuple(prompt), max_new_tokens=params["max_new_tokens"])
    result = write_line(engine, request, policy_of(sample), line)
    return line.tokens, result.forwards


@pytest.fixture
def sample_named(golden_samples: list[dict[str, Any]]) -> Callable[[str], dict[str, Any]]:
    return lambda name: next(sample for sample in golden_samples if sample["id"] == name)


@pytest.mark.parametrize("name", RUNS)
def test_published_run(name: str, golden_engine: Engine, sample_named: Callable[[str], dict[str, Any]]) -> None:
    sample = sample_named(name)
    prompt = sample["prompt_ids"][0]
    assert write(golden_engine, sample) == (sample["output_ids"][0][len(prompt) :], sample["nfe"])


def test_published_batch_goes_on_until_its_slowest_row(golden_engine: Engine, sample_named: Callable[[str], dict[str, Any]]) -> None:
    sample = sample_named("generate_batch")
    denoising: list[list[int]] = []
    for row, prompt in enumerate(sample["prompt_ids"]):
        recorder = Recorder(golden_engine)
        tokens, _ = write(recorder, sample, row)
        assert tokens == sample["output_ids"][row][len(prompt) :]
        passes = "".join("c" if causal else "d" for causal in recorder.causal)
        denoising.append([len(block) for block in passes.removeprefix("c").removesuffix("c").split("c")])
    blocks = list(zip(*denoising, strict=True))
    assert 1 + sum(max(block) + 1 for block in blocks) == sample["nfe"]


def test_served_diffusion_needs_no_pass_after_the_last_block(golden_engine: Engine, sample_named: Callable[[str], dict[str, Any]]) -> None:
    sample = sample_named("generate_2")
    prompt = tuple(sample["prompt_ids"][0])
    result = write_line(golden_engine, LineRequest(prompt, mode="diffusion", max_new_tokens=24, threshold=0.45))
    assert list(result.token_ids) == sample["output_ids"][0][len(prompt) :]
    assert result.forwards == sample["nfe"] - 1
    assert result.finish_reason == "length"


@pytest.mark.parametrize("limit", [1, 2, 7, 8, 9, 20])
@pytest.mark.parametrize("mode", ["diffusion", "self_speculation", "ar"])
def test_a_line_is_cut_to_its_limit(mode: Any, limit: int, golden_engine: Engine) -> None:
    result = write_line(golden_engine, LineRequest((42, 72, 235), mode=mode, max_new_tokens=limit))
    assert result.tokens == len(result.token_ids) == limit
    assert result.finish_reason == "length"
