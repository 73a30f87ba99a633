"""`dlm-export verify BUNDLE FOLDER --samples`: what it says and how it ends."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dlm_export.cli import app
from dlm_export.display import show_verify
from dlm_export.verify import VerifyReport, samples
from dlm_export.verify.sampler_runs import PreparedRun, RecordedRun, UnsupportedRun, prepare
from dlm_export.verify.sampler_runs.prepared import slowest_rows
from dlm_export.verify.samples import run_again, run_alone, write_alone
from dlm_export.verify.samples_file import read_samples
from dlm_export.verify.samples_report import Difference, RunResult, SamplesReport, first_difference, trajectory_difference
from dlm_runtime.bundle import Bundle
from dlm_runtime.engines import OnnxEngine
from dlm_runtime.engines.base import Engine
from rich.console import Console
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


REFUSED: dict[str, tuple[str, Any, str]] = {
    "too many steps": ("steps", 10**9, "steps=1000000000 is not supported; a whole number from 1 to 65536 is needed"),
    "a line of a billion tokens": ("gen_length", 10**9, "a whole number from 1 to 65536 is needed"),
    "no number": ("cfg_scale", float("nan"), "cfg_scale=nan is not supported; a finite number of float32 is needed"),
    "beyond float32": ("cfg_scale", 1e308, "a finite number of float32 is needed"),
    "words": ("cfg_scale", "two", "cfg_scale='two' is not supported; a number is needed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_parameters_that_no_loop_could_follow(verify: Callable[..., Result], name: str) -> None:
    parameter, value, said = REFUSED[name]
    result = verify(lambda runs: runs[0]["params"].update({parameter: value}))
    assert result.exit_code == 1
    assert f"low_confidence_0 (llada): {parameter}={value!r} is not supported; " in result.stdout
    assert said in result.stdout
    assert result.stdout.endswith("1 equal, 1 different\n")


def test_json(verify: Callable[..., Result]) -> None:
    result = verify(lambda runs: runs[0].update(nfe=9), "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert report["passed"] is False
    runs = report["samples"]
    assert (runs["passed"], runs["equal"], runs["different"]) == (False, 1, 1)
    first, second = runs["runs"]
    assert (first["id"], first["equal"], second["equal"]) == ("low_confidence_0", False, True)
    assert (first["alone"]["what"], first["alone"]["expected"], first["alone"]["found"]) == ("forwards", 9, 10)


BROKEN: dict[str, tuple[Change, str]] = {
    "no runs": (lambda runs: runs.clear(), "samples.json: is no list of runs"),
    "no id": (lambda runs: runs[1].pop("id"), "run 1, id: is missing, expected str"),
    "nfe in words": (lambda runs: runs[0].update(nfe="ten"), "run low_confidence_0, nfe: is 'ten', expected int"),
    "token outside": (lambda runs: runs[0]["prompt_ids"][0].append(256), "run low_confidence_0, prompt_ids: is [["),
    "row missing": (lambda runs: runs[0]["output_ids"].append([1]), "output_ids: has 2 rows, prompt_ids 1"),
    "mask too short": (lambda runs: runs[0].update(attention_mask=[[1]]), "attention_mask: does not fit prompt_ids"),
    "nothing before the line": (lambda runs: runs[0].update(prompt_ids=[[]]), "prompt_ids: is [[]], expected at least one token"),
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


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000], ids=["empty", "cut", "deep"])
def test_no_json(members: Callable[[str], Any], tmp_path: Path, text: str) -> None:
    (tmp_path / "samples.json").write_text(text, encoding="utf-8")
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


FAMILY_PARAMETERS: list[tuple[str, str, dict[str, Any], str]] = [
    ("a2d_qwen3", "dllm_mdlm", {"prompt_lengths": True}, "prompt_lengths=True is not supported; a length for every row"),
    ("a2d_qwen3", "dllm_mdlm", {"prompt_lengths": [999]}, "prompt_lengths=[999] is not supported; a length for every row"),
    ("a2d_qwen3", "dllm_mdlm", {"suppress_tokens": [256]}, "suppress_tokens=[256] is not supported; a list of token ids from 0 to 255"),
    ("a2d_qwen3", "dllm_bd3lm", {"eos_id": []}, "eos_id=[] is not supported; a whole number"),
    ("dream", "dream", {"top_k": "x"}, "top_k='x' is not supported; a whole number"),
    ("diffusion_gemma", "diffusion_gemma", {"t_min": "x"}, "t_min='x' is not supported; a number is needed"),
    ("diffusion_gemma", "diffusion_gemma", {"eos_token_id": {}}, "eos_token_id={} is not supported; a whole number"),
    ("fast_dllm_v2", "fast_dllm_v2", {"stop_token": []}, "stop_token=[] is not supported; a whole number"),
    ("llada2", "llada2", {"eos_id": []}, "eos_id=[] is not supported; a whole number"),
    ("nemotron_labs_diffusion", "nemotron_ar", {"eos_token_id": []}, "eos_token_id=[] is not supported; a whole number"),
]


def first_run(family: str, sampler: str) -> dict[str, Any]:
    runs: Runs = json.loads((FIXTURE.parent / family / "samples.json").read_text(encoding="utf-8"))
    return next(run for run in runs if run["sampler"] == sampler)


def prepared_after(bundle: Path, folder: Path, entry: dict[str, Any]) -> PreparedRun:
    """A run of samples.json, as far as it goes without a model."""
    manifest = Bundle.load(bundle).manifest
    (folder / "samples.json").write_text(json.dumps([entry]), encoding="utf-8")
    (run,) = read_samples(folder, manifest.vocab_size)
    return prepare(run, manifest)


@pytest.mark.parametrize(("family", "sampler", "changes", "said"), FAMILY_PARAMETERS)
def test_parameters_of_other_families(
    members: Callable[[str], Any], tmp_path: Path, family: str, sampler: str, changes: dict[str, Any], said: str
) -> None:
    entry = first_run(family, sampler)
    entry["params"] |= changes
    with pytest.raises(UnsupportedRun) as caught:
        prepared_after(members(family).bundle, tmp_path, entry)
    assert str(caught.value).startswith(said)


ODD_CANVASES: dict[str, dict[str, Any]] = {
    "no calls": {"calls": None},
    "calls that say nothing": {"calls": [{}]},
    "a first call that goes on": {"calls": [{"self_conditioned": True}]},
    "no canvases": {"random_canvases": []},
    "flat canvases": {"random_canvases": [1, 2]},
}


@pytest.mark.parametrize("name", ODD_CANVASES)
def test_canvases_that_cannot_be_followed(members: Callable[[str], Any], tmp_path: Path, name: str) -> None:
    changes = ODD_CANVASES[name]
    with pytest.raises(UnsupportedRun, match=rf"^{next(iter(changes))}="):
        prepared_after(members("diffusion_gemma").bundle, tmp_path, first_run("diffusion_gemma", "diffusion_gemma") | changes)


def test_fewer_random_canvases_than_the_line_takes_are_a_difference(members: Callable[[str], Any], tmp_path: Path) -> None:
    entry = first_run("diffusion_gemma", "diffusion_gemma")
    second = next(number for number, call in enumerate(entry["calls"]) if number and not call["self_conditioned"])
    entry |= {"calls": entry["calls"][:second], "random_canvases": entry["random_canvases"][: second + 1]}
    (tmp_path / "samples.json").write_text(json.dumps([entry]), encoding="utf-8")
    result = verified(members("diffusion_gemma").bundle, tmp_path, "--samples")
    assert result.exit_code == 1
    assert result.stdout.endswith("0 equal, 1 different\n")


def test_one_run_that_fails_leaves_the_others_equal(verify: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def alone(engine: Engine, run: RecordedRun) -> Difference | None:
        return Difference("error", problem="no") if run.id == "low_confidence_0" else run_alone(engine, run)

    monkeypatch.setattr(samples, "run_alone", alone)
    result = verify()
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "low_confidence_0 (llada), alone: no",
        "low_confidence_0 (llada), mixed: no",
        "1 equal, 1 different",
    ]


def test_long_prompts_of_many_runs_are_not_cut_into_more_passes(members: Callable[[str], Any], tmp_path: Path) -> None:
    """Twelve prompts of 60 tokens are more than the scheduler runs in a step."""
    bundle = Bundle.load(members("nemotron_labs_diffusion").bundle)
    engine = OnnxEngine(bundle)
    entries: Runs = []
    for number in range(12):
        entry = first_run("nemotron_labs_diffusion", "nemotron_diffusion") | {"id": f"long_{number}", "trajectory": None}
        entry["prompt_ids"] = [[(7 * number + 3 * column) % 90 + 5 for column in range(60)]]
        prepared = prepared_after(bundle.path, tmp_path, entry)
        for row in prepared.rows:
            write_alone(engine, row)
        entries.append(entry | {"output_ids": [row.output(row.line) for row in prepared.rows], "nfe": prepared.forwards})
    (tmp_path / "samples.json").write_text(json.dumps(entries), encoding="utf-8")
    results = run_again(engine, read_samples(tmp_path, bundle.manifest.vocab_size))
    engine.close()
    assert [sentence for result in results for sentence in result.sentences()] == []


def test_differences_of_a_rounded_bundle_are_explained() -> None:
    said = io.StringIO()
    report = SamplesReport((RunResult("one", "llada", alone=Difference("tokens", 1, 2, 0, 3)),))
    show_verify(Console(file=said, width=200), VerifyReport("int8", samples=report))
    first, *_, last = said.getvalue().splitlines()
    assert first.startswith("note this bundle is int8, whose rounding alone can change tokens")
    assert last == "0 equal, 1 different"
