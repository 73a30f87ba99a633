"""`dlm-demo` from its command line to its JSON file, on the embedded model and a real server."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from dlm_runtime.bundle import write_manifest
from dlm_runtime.cli.demo import app
from dlm_runtime.demo.host import HostError, server
from dlm_runtime.engines import fake_manifest
from typer.testing import CliRunner

MODES = ("diffusion", "self_speculation", "ar")


def test_json_has_every_line_and_every_number(tmp_path: Path) -> None:
    out = tmp_path / "demo.json"
    done = CliRunner().invoke(app, ["--npcs", "4", "--rounds", "1", "--json", str(out)])
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text(encoding="utf-8"))
    assert set(report) == {"machine", "bundle", "lines", "summary"}
    assert [line["mode"] for line in report["lines"]] == [mode for mode in MODES for _ in range(4)]
    for line in report["lines"]:
        assert set(line) == {"character", "player", "text", "mode", "latency_ms", "tokens", "forwards"}
        assert line["text"]
        assert line["latency_ms"] > 0
    for line in report["lines"][:4]:
        assert f"{line['player']} | " in done.output  # no terminal here, so the answers are printed plainly
        assert f": {line['text']}\n" in done.output
    assert set(report["summary"]) == set(MODES)
    for numbers in report["summary"].values():
        expected = {"single_p50_ms", "single_p95_ms", "crowd_p50_ms", "crowd_p95_ms", "lines_per_s", "tokens_per_forward"}
        assert set(numbers) == expected
        assert all(value > 0 for value in numbers.values())


def test_a_wrong_bundle_ends_with_code_2_and_the_reason(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--plain", "--bundle", str(tmp_path)])
    assert done.exit_code == 2
    assert "manifest.json" in done.output


def test_a_bundle_that_nobody_can_speak_with_is_refused_before_the_server_starts(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    write_manifest(tmp_path, fake_manifest().model_copy(update={"logit_shift": 1}))
    done = CliRunner().invoke(app, ["--plain", "--bundle", str(tmp_path)])
    assert done.exit_code == 2
    assert "manifest.json: has family='fake', context_mask='causal', logit_shift=1 and mask_token_id=1" in done.output
    assert "Starting" not in done.output


def test_the_servers_own_words_are_shown_when_it_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"manifest\.json"), server(["--bundle", str(tmp_path)]):
        pass


def test_a_json_file_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "demo.json"):
        done = CliRunner(env={"COLUMNS": "400"}).invoke(app, ["--json", str(path)])
        assert done.exit_code == 2
        assert "cannot be written" in done.output
        assert "Starting" not in done.output


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[str]]:
    """The processes that were started."""
    processes: list[subprocess.Popen[str]] = []

    class Recorded(subprocess.Popen[str]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    return processes


def test_a_server_that_ends_in_the_middle_is_named_as_the_cause(started: list[subprocess.Popen[str]]) -> None:
    def talk() -> None:
        with server(["--threads", "1"]):
            started[0].kill()
            raise ConnectionError("lost")

    with pytest.raises(HostError, match=r"dlm-serve ended with exit code .* while it was needed"):
        talk()


def test_a_server_goes_with_its_owner(started: list[subprocess.Popen[str]]) -> None:
    with server(["--threads", "1"]):
        assert started[0].stdin is not None
        started[0].stdin.close()  # as the system does when the owner is killed
        assert started[0].wait(20) == 0
