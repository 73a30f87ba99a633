"""Tokenizer and chat template of a checkpoint, tried out before they go into a bundle."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from dlm_export.checkpoint import Checkpoint
from dlm_export.errors import CheckpointError
from dlm_export.template_trial import template_problem
from dlm_export.template_variables import with_variables
from dlm_export.tokenizer_files import TokenizerFiles, read_tokenizer_files
from dlm_runtime.dialogue.template import ChatTemplate

ALL = "{% for message in messages %}{{ message.content }}{% endfor %}"


def read(path: Path, **variables: Any) -> TokenizerFiles:
    return read_tokenizer_files(Checkpoint.open(path), 256, variables)


def rendered(template: str) -> str:
    return "".join(segment.text for segment in ChatTemplate(template).render("card", (), "hello"))


def test_a_good_tokenizer_and_template_are_not_noted(checkpoint: Any) -> None:
    checkpoint.add_tokenizer()
    files = read(checkpoint.path)
    assert files.control_ids == (11, 100, 103)
    assert files.tokenizer_json == (checkpoint.path / "tokenizer.json").read_text(encoding="utf-8")
    assert files.chat_template == (checkpoint.path / "chat_template.jinja").read_text(encoding="utf-8")
    assert files.notes == ()


def test_no_text_files_is_fine(checkpoint: Any) -> None:
    assert read(checkpoint.path) == TokenizerFiles(None, None, ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"type": "WordLevel", "vocab": {"a": -1}, "unk_token": "a"}}, "tokenizer.json: is no tokenizer that can be loaded"),
        ({"model": None}, "tokenizer.json: is no tokenizer that can be loaded"),
        ({"added_tokens": [{"id": 5, "special": True}]}, "tokenizer.json: is no tokenizer that can be loaded"),
        ({"model": {"type": "WordLevel", "vocab": {"a": 256}, "unk_token": "a"}}, "tokenizer.json: model: holds id 256, the model has 256"),
    ],
)
def test_tokenizer_that_cannot_be_used(checkpoint: Any, change: dict[str, Any], message: str) -> None:
    checkpoint.add_tokenizer()
    file = checkpoint.path / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        read(checkpoint.path)
    assert message in str(caught.value)


def test_template_that_cannot_be_rendered_is_noted(checkpoint: Any) -> None:
    (checkpoint.path / "chat_template.jinja").write_text("{{ raise_exception('no system\nrole') }}", encoding="utf-8")
    files = read(checkpoint.path)
    assert files.chat_template is None
    reason = "prompts have to be assembled by the caller: no system role"
    assert files.notes == (f"The chat template cannot be used and is left out, so {reason}",)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (ALL, None),
        ("{% for message in messages %}", "Unexpected end of template"),
        ("{% generation %}{% endgeneration %}", "unknown tag 'generation'"),
        ("{{ messages[0].content }}", "leaves out what the player says"),
        ("{{ messages.__class__.__base__.__subclasses__() }}", "access to attribute '__class__' of 'list' object is unsafe"),
        ("{{ cycler.__init__.__globals__.os.environ }}", "access to attribute '__init__' of 'type' object is unsafe"),
        ("{{ messages.clear() }}" + ALL, "unsafe"),
        ("{{ " + "(" * 20_000, "RecursionError"),
        ("{% for a in x %}" * 30 + "{% endfor %}" * 30, "SyntaxError"),
        ("{% for index in range(10 ** 9) %}{% endfor %}" + ALL, "Range too big"),
        ("{% if messages | length == 4 %}{{ none.x.y }}{% endif %}" + ALL, "has no attribute 'x'"),  # only with a turn of history
    ],
)
def test_reasons(template: str, reason: str | None) -> None:
    problem = template_problem(template)
    assert problem == reason if reason is None else reason in (problem or "")


def test_template_that_does_not_end_is_stopped() -> None:
    start = time.monotonic()
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    assert template_problem(endless, time_limit_s=1.0) == "it was not done after 1 s"
    assert time.monotonic() - start < 5


def test_template_that_fills_the_memory_is_stopped() -> None:
    assert template_problem("{{ 'a' * 10 ** 11 }}" + ALL) is not None


def test_modules_in_the_current_folder_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jinja2.py").write_text("raise SystemExit('run')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert template_problem(ALL) is None


def test_special_tokens_are_set_in_front_of_a_template_that_reads_them(checkpoint: Any) -> None:
    (checkpoint.path / "special_tokens_map.json").write_text('{"bos_token": "<other>", "eos_token": "<end>"}', encoding="utf-8")
    config = {
        "bos_token": {"content": "<|start|>"},
        "pad_token": None,
        "chat_template": "{{ bos_token + messages[-1].content + eos_token }}",
    }
    (checkpoint.path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    files = read(checkpoint.path)
    assert files.notes == ()
    assert rendered(files.chat_template or "") == "<|start|>hello<end>"


@pytest.mark.parametrize(("thinking", "expected"), [(None, "hello"), (False, "hello<think></think>")])
def test_settings_of_a_family_are_set(checkpoint: Any, thinking: bool | None, expected: str) -> None:
    template = "{{ messages[-1].content }}{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"
    (checkpoint.path / "chat_template.jinja").write_text(template, encoding="utf-8")
    files = read(checkpoint.path, **({} if thinking is None else {"enable_thinking": thinking}))
    assert rendered(files.chat_template or "") == expected


@pytest.mark.parametrize("value", ['<"%}\n', "{{ 1 }}", "\\n", "\U0001f600", "é", None, True, False])
def test_values_survive_being_written_into_a_template(value: str | bool | None) -> None:
    template = with_variables("  {% if true %}\n[{{ value }}]{{ messages[1].content }}{% endif %}", {"value": value, "unused": "x"})
    assert rendered(template) == f"[{value}]hello"


def test_tools_are_none_as_templates_expect() -> None:
    template = with_variables("{% if tools is not none %}{{ tools | tojson }}{% endif %}" + ALL, {"tools": None})
    assert rendered(template) == "cardhello"


@pytest.mark.parametrize("template", ["{% for", "plain", "{{ " + "(" * 20_000])
def test_template_that_reads_nothing_or_cannot_be_parsed_is_left_as_it_is(template: str) -> None:
    assert with_variables(template, {"bos_token": "x"}) == template
