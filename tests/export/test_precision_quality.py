"""How much a bundle differs from its fp32 form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dlm_export.export_options import ExportOptions
from dlm_export.exporting import export_bundle
from dlm_export.verify.quality import answer_ids, compare_bundles
from dlm_export.verify.quality_prompts import QualityPrompt, tavern_prompts
from dlm_export.verify.quality_report import AgreementMeter, line_changes
from dlm_export.verify.quality_steps import blocks_of
from dlm_runtime.bundle import Bundle, Manifest
from dlm_runtime.embedded import tavern_bundle
from dlm_runtime.errors import BundleError

PROMPTS = [QualityPrompt(f"prompt {length}", tuple(range(20, 20 + length))) for length in (3, 9, 14)]


@pytest.fixture(scope="module")
def int4_bundle(golden_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int4") / "bundle"
    export_bundle(golden_checkpoint, folder, ExportOptions(precision="int4"))
    return folder


def test_a_bundle_agrees_with_itself(golden_bundle_path: Path) -> None:
    report = compare_bundles(golden_bundle_path, golden_bundle_path, PROMPTS)
    assert report.next_token is not None
    assert report.lines is not None
    for agreement in (report.next_token, report.denoising):
        assert agreement.positions > len(PROMPTS)
        assert (agreement.top1, agreement.kl) == (1.0, pytest.approx(0, abs=1e-12))
    assert (report.lines.total, report.lines.changed, report.lines.examples) == (3, 0, ())


def test_a_coarser_one_differs_and_says_how(golden_bundle_path: Path, int4_bundle: Path) -> None:
    told: list[tuple[str, int, int]] = []
    report = compare_bundles(int4_bundle, golden_bundle_path, PROMPTS, progress=lambda *what: told.append(what))
    assert report.denoising.kl > 1e-3
    assert report.lines is not None
    assert 0 < report.lines.changed == len(report.lines.examples)
    assert {sentence for sentence, _, _ in told} == {"writing lines in fp32", "writing lines in int4", "reading the same answers"}
    assert all(done <= total == 3 for _, done, total in told)
    assert json.loads(json.dumps(report.to_json()))["head_precision"] == "int4"


def test_a_bundle_whose_keys_and_values_are_float16_writes_lines_too(golden_checkpoint: Path, golden_bundle_path: Path, out: Path) -> None:
    export_bundle(golden_checkpoint, out, ExportOptions(precision="fp16", target="tensorrt-rtx"))
    report = compare_bundles(out, golden_bundle_path, PROMPTS)
    assert report.note == ""
    assert report.lines is not None
    assert (report.lines.total, report.lines.changed) == (3, 0)
    assert report.next_token is not None
    whole = compare_bundles(golden_bundle_path, golden_bundle_path, PROMPTS).next_token
    assert whole is not None
    assert report.next_token.positions == whole.positions
    assert report.denoising.kl < 1e-4


def test_bundles_of_different_models_are_not_compared(golden_bundle_path: Path, int4_bundle: Path) -> None:
    with pytest.raises(BundleError, match="is int4"):
        compare_bundles(golden_bundle_path, int4_bundle, PROMPTS)
    with pytest.raises(BundleError, match="vocab_size"):
        compare_bundles(golden_bundle_path, tavern_bundle(), PROMPTS)


def test_without_a_tokenizer_prompts_have_to_be_given(golden_bundle_path: Path) -> None:
    with pytest.raises(BundleError, match="tokenizer"):
        compare_bundles(golden_bundle_path, golden_bundle_path)


def test_tavern_prompts_are_what_the_server_would_ask() -> None:
    bundle = Bundle.load(tavern_bundle())
    prompts = tavern_prompts(bundle, 4)
    assert len({prompt.ids for prompt in prompts}) == 4
    assert all(min(prompt.ids) >= 0 and max(prompt.ids) < bundle.manifest.vocab_size for prompt in prompts)
    assert ": " in prompts[0].text


@pytest.mark.parametrize(("length", "starts"), [(3, [0, 0]), (8, [0, 0]), (20, [0, 0, 8, 8, 16, 16])])
def test_blocks_hide_all_and_half_of_an_answer(golden_bundle_path: Path, length: int, starts: list[int]) -> None:
    manifest = Bundle.load(golden_bundle_path).manifest
    answer = np.arange(30, 30 + length)
    blocks = list(blocks_of(answer, manifest, np.random.default_rng(0)))
    assert [block.start for block in blocks] == starts
    for block in blocks:
        assert len(block.token_ids) == manifest.block_length
        assert block.token_ids[0] == answer[block.start]  # known already where the context is causal
        assert (block.token_ids[block.open] == manifest.mask_token_id).all()
    assert len(blocks[1].open) <= len(blocks[0].open)


def changed(manifest: Manifest, **fields: Any) -> Manifest:
    return manifest.model_copy(update=fields)


def test_models_that_cannot_write_lines_read_the_prompts_end(golden_bundle_path: Path) -> None:
    manifest = Bundle.load(golden_bundle_path).manifest
    prompt, answer = answer_ids(PROMPTS[2], manifest, None)
    assert (*prompt.tolist(), *answer.tolist()) == PROMPTS[2].ids
    assert len(answer) == manifest.block_length
    blocks = list(blocks_of(answer, changed(manifest, context_mask="bidirectional"), np.random.default_rng(0)))
    assert len(blocks[0].open) == len(answer)
    random = next(blocks_of(answer, changed(manifest, mask_token_id=None), np.random.default_rng(0)))
    assert (random.token_ids != 100).all()


def test_the_meter_is_the_definition() -> None:
    reference, other = np.log([[0.5, 0.25, 0.25]]).astype(np.float32), np.log([[0.25, 0.5, 0.25]]).astype(np.float32)
    meter = AgreementMeter()
    meter.add(reference, other)
    meter.add(reference, reference)
    found = meter.result()
    assert (found.positions, found.top1) == (2, 0.5)
    assert found.kl == pytest.approx((0.5 * np.log(2) + 0.25 * np.log(0.5)) / 2)


def test_banned_tokens_add_nothing() -> None:
    logits = np.array([[0.0, -np.inf, 1.0]], np.float32)
    meter = AgreementMeter()
    meter.add(logits, logits)
    assert meter.result().kl == 0


def test_only_the_first_changed_lines_are_shown() -> None:
    lines = [(index,) for index in range(9)]
    found = line_changes([f"p{index}" for index in range(9)], lines, [(0,), *[(99,)] * 8], str)
    assert (found.total, found.changed, len(found.examples)) == (9, 8, 5)
    assert (found.examples[0].prompt, found.examples[0].reference, found.examples[0].line) == ("p1", "(1,)", "(99,)")
