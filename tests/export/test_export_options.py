"""What may be chosen, that it reaches the bundle, and what is said of a choice that the family has no answer to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from dlm_export.cli import app
from dlm_export.errors import OptionError
from dlm_export.export_options import ExportOptions
from dlm_runtime.bundle import Bundle, Manifest
from typer.testing import CliRunner, Result

FIXTURES = Path(__file__).parents[1] / "fixtures"
NEMOTRON, LLADA, A2D, SDAR = "nemotron_labs_diffusion", "llada", "a2d_qwen3", "sdar"


def export(name: str, out: Path, *options: str) -> Result:
    return CliRunner(env={"COLUMNS": "120", "TERM": "dumb"}).invoke(app, [str(FIXTURES / name), "--out", str(out), *options])


def exported(name: str, out: Path, *options: str) -> Manifest:
    result = export(name, out, *options)
    assert result.exit_code == 0, result.output
    return Bundle.load(out).manifest


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        (NEMOTRON, (), {"modes": ("diffusion", "self_speculation", "ar"), "default_mode": "diffusion"}),
        (NEMOTRON, ("--modes", "ar, diffusion"), {"modes": ("diffusion", "ar"), "default_mode": "diffusion"}),
        (NEMOTRON, ("--modes", "ar"), {"modes": ("ar",), "default_mode": "ar"}),
        (NEMOTRON, ("--modes", "ar,self_speculation,ar"), {"modes": ("self_speculation", "ar"), "default_mode": "self_speculation"}),
        (LLADA, ("--modes", "diffusion"), {"modes": ("diffusion",), "default_mode": "diffusion"}),
        (A2D, (), {"context_mask": "bidirectional"}),
        (A2D, ("--context-mask", "block_causal", "--block-length", "8"), {"context_mask": "block_causal", "block_length": 8}),
        (SDAR, ("--max-context", "48"), {"max_context": 48, "block_length": 4}),
        (SDAR, ("--max-context", "3"), {"max_context": 3, "block_length": 3}),
        (SDAR, ("--max-context", "2", "--block-length", "2"), {"max_context": 2, "block_length": 2}),
        (SDAR, ("--block-length", "16"), {"block_length": 16}),
        (NEMOTRON, ("--block-length", "1"), {"block_length": 1}),
        (NEMOTRON, ("--top-k", "3"), {"top_k": 3}),
        (NEMOTRON, ("--top-k", "1000000"), {"top_k": 256}),
        (NEMOTRON, ("--name", "Åsa"), {"name": "Åsa"}),
        (LLADA, ("--mask-token-id", "7"), {"mask_token_id": 7}),
        (LLADA, ("--eos-token-id", "3", "--eos-token-id", "9"), {"eos_token_ids": (3, 9)}),
        (LLADA, ("--pad-token-id", "2", "--bos-token-id", "1"), {"pad_token_id": 2, "bos_token_id": 1}),
    ],
)
def test_a_choice_is_in_the_manifest(out: Path, name: str, options: tuple[str, ...], expected: dict[str, Any]) -> None:
    manifest = exported(name, out, *options)
    assert {field: getattr(manifest, field) for field in expected} == expected


def test_the_graph_knows_top_k_and_the_mask(out: Path) -> None:
    exported(LLADA, out, "--top-k", "3", "--mask-token-id", "7")
    model = onnx.load(out / "model.onnx")
    unmask = next(node for node in model.graph.node if node.op_type == "ParallelUnmask")
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in unmask.attribute}
    assert (attributes["top_k"], attributes["mask_token_id"]) == (3, 7)
    shapes = {value.name: value.type.tensor_type.shape.dim[-1].dim_value for value in model.graph.output}
    assert shapes["top_ids"] == shapes["top_logprobs"] == 3


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (LLADA, ("--modes", "ar"), "--modes ar: LLaDAModelLM can do diffusion"),
        (SDAR, ("--modes", "diffusion,self_speculation"), "--modes diffusion,self_speculation: SDARForCausalLM can do diffusion"),
        (
            NEMOTRON,
            ("--modes", "diffusion,prefill"),
            "'prefill' is no mode; give a comma-separated choice of diffusion, self_speculation, ar",
        ),
        (NEMOTRON, ("--modes", ""), "'' is no mode"),
        (NEMOTRON, ("--modes", "ar,"), "'' is no mode"),
        (LLADA, ("--context-mask", "causal"), "--context-mask causal: LLaDAModelLM can do bidirectional"),
        (SDAR, ("--context-mask", "bidirectional"), "--context-mask bidirectional: SDARForCausalLM can do block_causal"),
        (A2D, ("--context-mask", "causal"), "--context-mask causal: A2DQwen3LMHeadModel can do bidirectional, block_causal"),
        (SDAR, ("--max-context", "1000000"), "--max-context 1000000: the model was made for at most"),
        (SDAR, ("--block-length", "1000000"), "--block-length 1000000: give 1 to "),
        (SDAR, ("--max-context", "8", "--block-length", "9"), "--block-length 9: give 1 to 8, the context's length"),
        (LLADA, ("--mask-token-id", "256"), "--mask-token-id: is 256, which is not an id of this model (vocab_size is 256)"),
        (LLADA, ("--eos-token-id", "7", "--mask-token-id", "7"), "mask_token_id=7 is also an end-of-text id"),
        ("diffusion_gemma", ("--mask-token-id", "7"), "canvases of this family start from random tokens"),
    ],
)
def test_a_choice_that_does_not_suit(refused: Callable[..., None], name: str, options: tuple[str, ...], message: str) -> None:
    refused(FIXTURES / name, message, options=options)


@pytest.mark.parametrize(
    "options",
    [
        ("--top-k", "0"),
        ("--max-context", "1"),
        ("--block-length", "0"),
        ("--mask-token-id", "-1"),
        ("--context-mask", "sideways"),
        ("--top-k", "many"),
        ("--precision", "int3"),
    ],
)
def test_a_choice_that_suits_no_family(out: Path, options: tuple[str, str]) -> None:
    result = export(NEMOTRON, out, *options)
    assert result.exit_code == 2
    assert options[0] in result.stderr
    assert not out.parent.exists()


@pytest.mark.parametrize("top_k", [0, -3])
def test_top_k_is_checked_without_the_command_too(top_k: int) -> None:
    with pytest.raises(OptionError, match=f"--top-k {top_k}: give at least 1"):
        ExportOptions(top_k=top_k)


def test_a_mask_taken_for_lack_of_a_choice_is_noted(out: Path) -> None:
    report = json.loads(export(A2D, out, "--json").stdout)
    assert any("bidirectional was taken; --context-mask block_causal is the other" in note for note in report["notes"])
    chosen = json.loads(export(A2D, out, "--json", "--force", "--context-mask", "bidirectional").stdout)
    assert not any("--context-mask" in note for note in chosen["notes"])


@pytest.mark.parametrize("name", [NEMOTRON, "bert", "llada_moe", "diffusion_gemma"])
def test_a_bundle_without_a_tokenizer_says_so(out: Path, name: str) -> None:
    result = export(name, out)
    assert result.exit_code == 0
    assert "The checkpoint has no tokenizer.json: the bundle speaks token ids only." in result.stdout
    assert "prompts have to be assembled by the caller" in result.stdout
    assert Bundle.load(out).tokenizer_path is None
