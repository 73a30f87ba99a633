"""`dlm-serve`: one line when it listens, exit code 2 and a plain message when it cannot, a drain at SIGTERM."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from dlm_runtime.bundle import write_manifest
from dlm_runtime.cli.serve import app
from dlm_runtime.engines import fake_manifest
from dlm_runtime.service.launch import ServerOptions
from typer.testing import CliRunner, Result

if TYPE_CHECKING:
    from conftest import Tavern


@pytest.fixture
def characters(tmp_path: Path) -> Path:
    folder = tmp_path / "characters"
    folder.mkdir()
    (folder / "torvek.yaml").write_text("id: torvek\nname: Torvek\n", encoding="utf-8")
    return folder


@pytest.fixture
def bundle(tmp_path: Path, tokenizer: str, template: str) -> Path:
    """A bundle that is right in everything but its model, which is no model."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"not a model")
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    write_manifest(folder, fake_manifest(320, chat_template=template))
    return folder


def serve(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def check_refused(result: Result, message: str) -> None:
    assert result.exit_code == 2
    assert re.search(message, result.stderr), result.stderr
    assert "Traceback" not in result.output


def test_a_wrong_bundle_folder(characters: Path, tmp_path: Path) -> None:
    result = serve("--bundle", tmp_path / "none", "--characters", characters)
    check_refused(result, "none: is not a folder. Give the folder that dlm-export wrote")
    result = serve("--bundle", characters, "--characters", characters)
    check_refused(result, r"manifest\.json: does not exist. This folder is no bundle")


def test_a_changed_model_file(bundle: Path, characters: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"changed")
    check_refused(serve("--bundle", bundle, "--characters", characters), r"model\.onnx: has sha256 .* The file has changed")


def test_a_file_that_is_no_model(bundle: Path, characters: Path) -> None:
    check_refused(serve("--bundle", bundle, "--characters", characters), r"model\.onnx")


@pytest.mark.parametrize(("field", "message"), [("chat_template", "has no chat_template"), ("tokenizer", "holds no tokenizer.json")])
def test_a_bundle_that_cannot_hold_a_dialogue(bundle: Path, characters: Path, template: str, field: str, message: str) -> None:
    if field == "tokenizer":
        (bundle / "tokenizer.json").unlink()
    write_manifest(bundle, fake_manifest(320, chat_template=None if field == "chat_template" else template))
    check_refused(serve("--bundle", bundle, "--characters", characters), message)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("mask_token_id", None, "logit_shift=0 and mask_token_id=null"), ("logit_shift", 1, "logit_shift=1 and mask_token_id=1")],
)
def test_a_bundle_that_nobody_can_speak_with(
    bundle: Path, characters: Path, template: str, field: str, value: object, message: str
) -> None:
    """Said before the model is opened: it is none, and that goes unnoticed."""
    write_manifest(bundle, fake_manifest(320, chat_template=template).model_copy(update={field: value}))
    result = serve("--bundle", bundle, "--characters", characters)
    said = rf"bundle/manifest\.json: has family='fake', context_mask='causal', {message}, and this release has no decoding loop"
    check_refused(result, said)


def test_a_tokenizer_that_knows_more_than_the_model(bundle: Path, characters: Path, template: str) -> None:
    write_manifest(bundle, fake_manifest(100, chat_template=template))
    check_refused(serve("--bundle", bundle, "--characters", characters), r"tokenizer\.json: knows \d+ tokens, the model 100\.")


def test_a_broken_tokenizer(bundle: Path, characters: Path, template: str) -> None:
    (bundle / "tokenizer.json").write_text("{}", encoding="utf-8")
    write_manifest(bundle, fake_manifest(320, chat_template=template))
    check_refused(serve("--bundle", bundle, "--characters", characters), "not a readable tokenizer.json")


def test_a_broken_character_file(bundle: Path, characters: Path) -> None:
    (characters / "torvek.yaml").write_text("id: torvek\nage: 3\nname: T\n", encoding="utf-8")
    check_refused(serve("--bundle", bundle, "--characters", characters), r"torvek\.yaml: age: unknown key: remove it")


def test_options_out_of_range() -> None:
    assert serve("--port", "70000").exit_code == 2
    assert serve("--max-rows", "0").exit_code == 2


@pytest.fixture
def fake_model(monkeypatch: pytest.MonkeyPatch, tavern: type[Tavern]) -> None:
    """`dlm-serve` around the engine without a model."""

    def load(options: ServerOptions) -> tuple[object, object]:
        return tavern().load()[:2]

    monkeypatch.setattr("dlm_runtime.service.launch.load_speaker", load)


@pytest.mark.usefixtures("fake_model")
def test_a_port_in_use(bundle: Path, characters: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = serve("--bundle", bundle, "--characters", characters, "--port", port)
    check_refused(result, f"cannot listen on 127.0.0.1:{port}: choose another --port")


@pytest.fixture
def closed_stdin() -> Iterator[None]:
    """Standard input that is at its end."""
    saved = os.dup(0)
    reading, writing = os.pipe()
    os.dup2(reading, 0)
    os.close(reading)
    os.close(writing)
    yield
    os.dup2(saved, 0)
    os.close(saved)


@pytest.mark.usefixtures("fake_model", "closed_stdin")
def test_it_stops_when_standard_input_closes(bundle: Path, characters: Path) -> None:
    result = serve("--bundle", bundle, "--characters", characters, "--port", 0, "--until-stdin-closes")
    assert result.exit_code == 0, result.output


@pytest.mark.usefixtures("fake_model")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("as_json", [False, True])
def test_it_serves_until_a_signal(
    bundle: Path, characters: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, as_json: bool
) -> None:
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr("dlm_runtime.cli.serve.print", lambda text, flush: (print(text), os.kill(os.getpid(), number)), raising=False)
    result = serve("--bundle", bundle, "--characters", characters, "--port", 0, *(["--json-logs"] if as_json else []))
    assert result.exit_code == 0, result.output
    if as_json:
        entry = json.loads(result.stdout)
        assert (entry["event"], entry["host"], entry["characters"]) == ("listening", "127.0.0.1", 2)
        assert entry["port"] > 0
    else:
        assert re.fullmatch(r"listening on 127\.0\.0\.1:\d+ \(bundle fake, 2 characters, modes diffusion, .*\)\n", result.stdout)
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
