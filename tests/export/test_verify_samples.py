"""`dlm-export verify BUNDLE FOLDER --samples`: what it says and how it ends."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dlm_export.cli import app
from dlm_export.verify.sampler_runs.prepared import slowest_rows
from dlm_export.verify.samples_report import Difference, RunResult, SamplesReport, first_difference, trajectory_difference
from typer.testing import CliRunner, Result

FIXTURE = Path(__file__).parents[1] / "fixtures" / "llada_moe"
Runs = list[dict[str, Any]]
Change = Callable[[Runs], object]


@pytest.fixture
def verify(members: Callable[[str], Any], tmp_path: Path) -> Callable[..., Result]:
    """Verifies llada_moe against its recorded runs after a change to them. `logits`: with the recorded logits beside them."""

    def run(change: Change = lambda runs: None, *options: str, logits: bool = False) -> Result:
        runs = json.loads((FIXTURE / "samples.json").read_text(encoding="utf-8"))
        change(runs)
        (tmp_path / "samples.json").write_text(json.dumps(runs), encoding="utf-8")
        for name in ("logits.npz", "meta.json") if logits else ():
            shutil.copy(FIXTURE / name, tmp_path)
        return verified(members("llada_moe").bundle, tmp_path, "--samples", *options)

    return run


def verified(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "120", "TERM": "dumb"}).invoke(app, ["verify", *map(str, arguments)])


def test_equal_runs(verify: Callable[..., Result]) -> None:
    result = verify()
    assert (result.exit_code, result.stdout) == (0, "2 equal, 0 different\n")


def test_runs_and_logits_together(verify: Callable[..., Result]) -> None:
    result = verify(logits=True)
    assert result.exit_code == 0
    for words in ("recorded left_pad", "passed fp32", "2 equal, 0 different"):
        assert words in result.stdout


def test_without_the_option_runs_are_not_looked_at(members: Callable[[str], Any]) -> None:
    result = verified(members("llada_moe").bundle, FIXTURE)
    assert result.exit_code == 0
    assert "different" not in result.stdout


def test_the_first_different_token_is_shown_both_ways(verify: Callable[..., Result]) -> None:
    def other_token(runs: Runs) -> None:
        runs[1]["output_ids"][0][20] = 3

    result = verify(other_token)
    assert result.exit_code == 1
    for way in ("alone", "mixed"):
        assert f"low_confidence_1 (llada), {way}: row 0, index 20: expected 3, got " in result.stdout
    assert "1 equal, 1 different" in result.stdout


def test_other_numbers_of_forward_passes(verify: Callable[..., Result]) -> None:
    result = verify(lambda runs: runs[0].update(nfe=9))
    assert result.exit_code == 1
    assert "low_confidence_0 (llada), alone: 9 forward passes expected, got 10" in result.stdout


def test_other_canvases_on_the_way(verify: Callable[..., Result]) -> None:
    def other_canvas(runs: Runs) -> None:
        runs[0]["trajectory"][3][0][-1] = 5

    result = verify(other_canvas)
    assert result.exit_code == 1
    assert "low_confidence_0 (llada), alone: canvas 3 of row 0, index 27: expected 5, got 245" in result.stdout
    assert "mixed" not in result.stdout


def test_a_parameter_that_nobody_knows_counts_as_different(verify: Callable[..., Result]) -> None:
    result = verify(lambda runs: runs[0]["params"].update(stride=2))
    assert result.exit_code == 1
    assert "low_confidence_0 (llada): stride=2 is not supported; known parameters are block_length, " in result.stdout
    assert "1 equal, 1 different" in result.stdout


def test_an_unknown_sampler_is_bad_input_but_the_others_are_run(verify: Callable[..., Result]) -> None:
    result = verify(lambda runs: runs[0].update(sampler="guess"))
    assert result.exit_code == 2
    assert "low_confidence_0 (guess): no sampler is called 'guess'. Known ones are " in result.stdout
    assert "1 equal, 1 different" in result.stdout


def test_json(verify: Callable[..., Result]) -> None:
    result = verify(lambda runs: runs[0].update(nfe=9), "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert report["passed"] is False
    samples = report["samples"]
    assert (samples["passed"], samples["equal"], samples["different"]) == (False, 1, 1)
    first, second = samples["runs"]
    assert (first["id"], first["equal"], second["equal"]) == ("low_confidence_0", False, True)
    assert (first["alone"]["what"], first["alone"]["expected"], first["alone"]["found"]) == ("forwards", 9, 10)


BROKEN: dict[str, tuple[Change, str]] = {
    "no runs": (lambda runs: runs.clear(), "samples.json: is no list of runs"),
    "no id": (lambda runs: runs[1].pop("id"), "run 1, id: is missing, expected str"),
    "nfe in words": (lambda runs: runs[0].update(nfe="ten"), "run low_confidence_0, nfe: is 'ten', expected int"),
    "token outside": (lambda runs: runs[0]["prompt_ids"][0].append(256), "run low_confidence_0, prompt_ids: is [["),
    "row missing": (lambda runs: runs[0]["output_ids"].append([1]), "output_ids: has 2 rows, prompt_ids 1"),
    "mask too short": (lambda runs: runs[0].update(attention_mask=[[1]]), "attention_mask: does not fit prompt_ids"),
    "odd trajectory": (lambda runs: runs[0].update(trajectory=[[1]]), "trajectory: is no list of canvases"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_cannot_be_used(verify: Callable[..., Result], name: str) -> None:
    change, said = BROKEN[name]
    result = verify(change)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_folder_without_runs(members: Callable[[str], Any], tmp_path: Path) -> None:
    result = verified(members("llada_moe").bundle, tmp_path, "--samples")
    assert result.exit_code == 2
    assert "samples.json: cannot be read: No such file or directory. Give a folder with recorded sampler runs" in result.stderr


def test_no_json(members: Callable[[str], Any], tmp_path: Path) -> None:
    (tmp_path / "samples.json").write_text("[", encoding="utf-8")
    result = verified(members("llada_moe").bundle, tmp_path, "--samples")
    assert result.exit_code == 2
    assert "samples.json: is no JSON: " in result.stderr


def test_first_difference() -> None:
    assert first_difference([[1, 2], [3]], [[1, 2], [3]]) is None
    assert first_difference([[1, 2], [3]], [[1, 2], [4]]) == Difference("tokens", 4, 3, 1, 0)
    assert first_difference([[1]], [[1, 5]]) == Difference("tokens", 5, None, 0, 1)


def test_canvases_that_stand_still_count_once() -> None:
    assert trajectory_difference([[0, 7], [7, 7]], [[0, 0], [0, 7], [0, 7], [7, 7]], 0) is None
    assert trajectory_difference([[0, 7]], [[0, 0], [0, 7], [7, 7]], 1) == Difference("trajectory", 7, None, 1, 0, 2)


def test_a_batch_takes_as_long_as_its_slowest_row_in_every_stretch() -> None:
    assert slowest_rows([[("a", 1), ("b", 5)], [("a", 1), ("b", 2), ("c", 3)]]) == 1 + 5 + 3
    assert slowest_rows([[("a", 1), ("a", 1), ("b", 1)], [("a", 1), ("b", 4)]]) == 2 + 4


def test_what_is_refused_counts_as_different() -> None:
    report = SamplesReport((RunResult("one", "llada"), RunResult("two", "llada", refused="no")))
    assert (report.equal, report.different, report.passed) == (1, 1, False)
