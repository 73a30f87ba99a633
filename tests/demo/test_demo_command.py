"""`dlm-demo` from its command line to its JSON file, on the embedded model and a real server."""

import json
from pathlib import Path

import pytest
from dlm_runtime.cli.demo import app
from dlm_runtime.demo.host import HostError, server
from typer.testing import CliRunner

MODES = ("diffusion", "self_speculation", "ar")


def test_json_has_every_line_and_every_number(tmp_path: Path) -> None:
    out = tmp_path / "demo.json"
    done = CliRunner().invoke(app, ["--npcs", "4", "--rounds", "1", "--plain", "--json", str(out)])
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text(encoding="utf-8"))
    assert set(report) == {"machine", "bundle", "lines", "summary"}
    assert [line["mode"] for line in report["lines"]] == [mode for mode in MODES for _ in range(4)]
    for line in report["lines"]:
        assert set(line) == {"character", "player", "text", "mode", "latency_ms", "tokens", "forwards"}
        assert line["text"]
        assert line["latency_ms"] > 0
    assert set(report["summary"]) == set(MODES)
    for numbers in report["summary"].values():
        expected = {"single_p50_ms", "single_p95_ms", "crowd_p50_ms", "crowd_p95_ms", "lines_per_s", "tokens_per_forward"}
        assert set(numbers) == expected
        assert all(value > 0 for value in numbers.values())


def test_a_wrong_bundle_ends_with_code_2_and_the_reason(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--plain", "--bundle", str(tmp_path)])
    assert done.exit_code == 2
    assert "manifest.json" in done.output


def test_the_servers_own_words_are_shown_when_it_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"manifest\.json"), server(["--bundle", str(tmp_path)]):
        pass
