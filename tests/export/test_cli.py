"""`dlm-export` as people call it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dlm_export import exporting
from dlm_export.cli import app
from dlm_runtime.bundle import write_manifest
from typer.testing import CliRunner, Result

TAVERN = Path(__file__).parents[2] / "samples" / "tavern"


def dlm_export(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "120", "TERM": "dumb"}).invoke(app, [str(argument) for argument in arguments])


def test_help_shows_the_short_form_commands_and_examples() -> None:
    result = dlm_export("--help")
    assert result.exit_code == 0
    for words in ("dlm-export CHECKPOINT --out DIR", "inspect", "verify", "Examples", "--precision int8"):
        assert words in result.output


def test_no_arguments_shows_help() -> None:
    assert "Usage" in dlm_export().output


@pytest.mark.parametrize("order", ["checkpoint first", "options first", "with the command's name"])
def test_export(golden_checkpoint: Path, out: Path, order: str) -> None:
    arguments = {
        "checkpoint first": (golden_checkpoint, "--out", out),
        "options first": ("--out", out, "--precision", "fp32", golden_checkpoint),
        "with the command's name": ("export", golden_checkpoint, "--out", out),
    }[order]
    result = dlm_export(*arguments)
    assert result.exit_code == 0, result.output
    assert "wrote" in result.output
    assert "no tokenizer.json" in result.output
    assert (out / "manifest.json").is_file()


def test_export_json(golden_checkpoint: Path, out: Path) -> None:
    result = dlm_export(golden_checkpoint, "--out", out, "--precision", "int8", "--name", "small", "--json")
    report = json.loads(result.stdout)
    assert report["path"] == str(out)
    assert (report["manifest"]["name"], report["manifest"]["precision"]) == ("small", "int8")


def test_inspect(golden_bundle_path: Path) -> None:
    result = dlm_export("inspect", golden_bundle_path)
    assert result.exit_code == 0
    for words in ("NemotronLabsDiffusionModel", "model.onnx", "past.1.value", "[B, 2, P, 16]", "dlm::ParallelUnmask", "present.0.key"):
        assert words in result.output
    facts = json.loads(dlm_export("inspect", golden_bundle_path, "--json").stdout)
    assert facts["manifest"]["layers"] == 2
    assert facts["parameters"] > 100_000
    assert {"name": "past.0.key", "element_type": "float", "shape": ["B", 2, "P", 16]} in facts["inputs"]


def test_verify(golden_bundle_path: Path, checkpoint: Any) -> None:
    result = dlm_export("verify", golden_bundle_path, checkpoint.path)
    assert result.exit_code == 0, result.output
    for words in ("all modes in one batch", "end of the context", "passed fp32: no error above what its case is allowed: 0.0001"):
        assert words in result.output
    report = json.loads(dlm_export("verify", golden_bundle_path, checkpoint.path, "--json").stdout)
    assert report["passed"]
    assert report["largest_error"] <= 1e-4


def test_verify_fails_with_exit_code_1(golden_bundle_path: Path, checkpoint: Any) -> None:
    checkpoint.tensors(lambda tensors: tensors["encoder.norm.weight"].mul_(1.1))
    result = dlm_export("verify", golden_bundle_path, checkpoint.path)
    assert result.exit_code == 1
    assert "failed" in result.output


def test_bad_paths_exit_with_2_and_one_sentence(golden_bundle_path: Path, golden_checkpoint: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    for arguments in (
        (nowhere, "--out", tmp_path / "x"),
        ("inspect", nowhere),
        ("verify", nowhere, golden_checkpoint),
        ("verify", golden_bundle_path, nowhere),
        (golden_checkpoint, "--out", golden_bundle_path),
    ):
        result = dlm_export(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.startswith("error ")
        assert result.stderr.count("\n") == 1


def test_shapes_in_messages_survive_the_markup(checkpoint: Any, out: Path) -> None:
    checkpoint.config(intermediate_size=161)
    assert "has shape [160, 64], config.json asks for [161, 64]" in dlm_export(checkpoint.path, "--out", out).stderr


@pytest.mark.parametrize("arguments", [("--precision", "int3"), ()])
def test_bad_options_exit_with_2(golden_checkpoint: Path, out: Path, arguments: tuple[str, ...]) -> None:
    result = dlm_export(golden_checkpoint, *(("--out", out, *arguments) if arguments else ()))
    assert result.exit_code == 2
    assert not out.exists()


def test_inspecting_loads_no_torch(golden_bundle_path: Path) -> None:
    program = (
        "import sys; from dlm_export.cli import app\n"
        "try: app(['inspect', sys.argv[1]])\n"
        "except SystemExit as done: sys.exit(done.code or int('torch' in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program, str(golden_bundle_path)], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("command", "missing"), [("inspect BUNDLE", "onnx"), ("verify BUNDLE CHECKPOINT", "torch"), ("CHECKPOINT --out OUT", "torch")]
)
def test_without_the_extra_it_says_what_to_install(
    golden_bundle_path: Path, golden_checkpoint: Path, out: Path, command: str, missing: str
) -> None:
    program = (
        "import sys\nfor name in ('torch', 'onnx', 'safetensors'): sys.modules[name] = None\n"
        "from dlm_export.cli import app; app(sys.argv[1:])"
    )
    paths = {"BUNDLE": golden_bundle_path, "CHECKPOINT": golden_checkpoint, "OUT": out}
    words = [str(paths.get(word, word)) for word in command.split()]
    result = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert result.returncode == 2
    assert (
        result.stderr == f"error {missing} is not installed, which this command needs. Install the extra: pip install 'dlm-npc[export]'\n"
    )


def test_arguments_the_wrong_way_round(golden_bundle_path: Path, golden_checkpoint: Path) -> None:
    assert "This is a checkpoint, not a bundle" in dlm_export("verify", golden_checkpoint, golden_bundle_path).stderr


def test_inspecting_a_model_without_a_graph(checkpoint: Any, out: Path) -> None:
    manifest = exporting.export_bundle(checkpoint.path, out).manifest
    (out / "model.onnx").write_bytes(b"")
    write_manifest(out, manifest)
    result = dlm_export("inspect", out)
    assert result.exit_code == 2
    assert "model.onnx: holds no graph" in result.stderr


def test_verify_says_what_int8_changes_on_the_taverns_questions(out: Path) -> None:
    assert dlm_export(TAVERN / "checkpoint", "--out", out, "--precision", "int8").exit_code == 0
    result = dlm_export("verify", out, TAVERN / "bundle", "--json")
    assert result.exit_code == 0
    quality = json.loads(result.output)["quality"]
    assert (quality["precision"], quality["embedding_precision"]) == ("int8", "bf16")  # the checkpoint's own: nothing lost
    assert quality["next_token"]["top1"] > 0.98
    assert quality["denoising"]["kl"] < 0.01
    assert quality["lines"]["total"] == 32
    shown = dlm_export("verify", out, TAVERN / "bundle").output
    assert f"decoded lines: {quality['lines']['changed']} of 32 changed" in shown


def test_a_defect_is_no_difference(golden_checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise KeyError("a mistake of the program's")

    monkeypatch.setattr(exporting, "export_bundle", broken)
    result = dlm_export(golden_checkpoint, "--out", out)
    assert result.exit_code == 3
    assert "a mistake of the program's" in result.stderr
    assert "this is a defect of dlm-export" in result.stderr


def test_families_are_listed() -> None:
    listed = json.loads(dlm_export("families", "--json").stdout)
    assert len(listed) == 16
    dream = next(family for family in listed if family["architecture"] == "DreamModel")
    assert dream == {
        "architecture": "DreamModel",
        "name": "dream",
        "context_masks": ["bidirectional"],
        "logit_shift": 1,
        "modes": ["diffusion"],
    }
    shown = dlm_export("families").output
    assert all(family["architecture"] in shown for family in listed)
