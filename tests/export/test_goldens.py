"""Every golden checkpoint through the whole exporter, against the logits that its own reference code computed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dlm_export.cli import app
from dlm_export.families import FAMILIES
from dlm_export.verify import verify_bundle
from typer.testing import CliRunner, Result

FIXTURES = Path(__file__).parents[1] / "fixtures"
NAMES = sorted(folder.name for folder in FIXTURES.iterdir() if folder.is_dir())
LONG = "long_positions"
SHIFTED = {"DreamModel", "Fast_dLLM_QwenForCausalLM"}


def meta_of(name: str) -> dict[str, Any]:
    return json.loads((FIXTURES / name / "meta.json").read_text(encoding="utf-8"))


def config_of(name: str) -> dict[str, Any]:
    return json.loads((FIXTURES / name / "config.json").read_text(encoding="utf-8"))


def recorded_positions(name: str, case: str) -> int:
    """How many rows of logits a case says are to be compared, those of its prefix included."""
    with np.load(FIXTURES / name / "logits.npz") as recorded:
        prefix = f"{case}__prefix_logits"
        return int(recorded[f"{case}__compare"].sum()) + (recorded[prefix][..., 0].size if prefix in recorded else 0)


def dlm_export(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "120", "TERM": "dumb"}).invoke(app, [str(argument) for argument in arguments])


def test_the_folders_are_there() -> None:
    """So that a lost fixture is no silent success."""
    assert len(NAMES) == 25
    assert {config_of(name)["architectures"][0] for name in NAMES} == set(FAMILIES)


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_case_within_its_tolerance(members: Callable[[str], Any], name: str) -> None:
    report = verify_bundle(members(name).bundle, FIXTURES / name)
    cases = list(meta_of(name)["logits_cases"])
    assert [result.name for result in report.results] == [f"recorded {case}" for case in cases]
    assert report.passed, report
    for case, result in zip(cases, report.results, strict=True):
        stated = meta_of(name)["tolerance"]
        assert result.tolerance == (stated["logits_abs_long"] if case == LONG else stated["logits_abs"])
        assert result.largest_error <= 1e-4  # whatever a recording allows, these are all closer
        assert result.positions == recorded_positions(name, case)
        assert result.finite


@pytest.mark.parametrize("name", NAMES)
def test_manifest_says_what_was_recorded(members: Callable[[str], Any], name: str) -> None:
    manifest = json.loads((members(name).bundle / "manifest.json").read_text(encoding="utf-8"))
    meta, config = meta_of(name), config_of(name)
    assert manifest["architecture"] == config["architectures"][0]
    assert manifest["mask_token_id"] == meta.get("mask_token_id")
    assert manifest["logit_shift"] == (config["architectures"][0] in SHIFTED)
    if meta.get("eos_token_id") is not None:
        ends = meta["eos_token_id"]
        assert set(manifest["eos_token_ids"]) >= set(ends if isinstance(ends, list) else [ends])
    if any(field in config for field in ("block_size", "bd_size", "canvas_length")):
        assert manifest["block_length"] == meta.get("block_size", config.get("canvas_length"))


@pytest.mark.parametrize("name", ["nemotron_labs_diffusion", "llada2"])
def test_the_command_prints_a_line_per_case(members: Callable[[str], Any], name: str) -> None:
    result = dlm_export("verify", members(name).bundle, FIXTURES / name)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if line.startswith("recorded ")]
    assert [line.split()[1] for line in lines] == list(meta_of(name)["logits_cases"])
    for line in lines:
        error, allowed = re.findall(r"\d\.\de-\d\d", line)[:2]
        assert 0 < float(error) <= float(allowed)
        assert line.rstrip().endswith("ok")


@pytest.mark.parametrize("name", NAMES)
def test_one_other_weight_fails_with_exit_code_1(golden_copy: Callable[[str], Any], out: Path, name: str) -> None:
    """A twentieth more on half of the last matrix that a layer has."""
    checkpoint = golden_copy(name)

    def perturb(tensors: dict[str, Any]) -> None:
        matrices = sorted(key for key, value in tensors.items() if value.ndim > 1 and re.search(r"\.(layers?|blocks)\.1\.", key))
        tensors[matrices[-1]][..., ::2] *= 1.05

    checkpoint.tensors(perturb)
    assert dlm_export(checkpoint.path, "--out", out).exit_code == 0
    result = dlm_export("verify", out, FIXTURES / name)
    assert result.exit_code == 1, result.output
    assert "fails" in result.stdout
    assert "failed" in result.stdout


def test_a_recording_of_another_model(members: Callable[[str], Any]) -> None:
    result = dlm_export("verify", members("llada").bundle, FIXTURES / "mdlm")
    assert result.exit_code == 2
    assert "vocab_size of plain: is 130, the bundle was made from one with 256" in result.stderr
