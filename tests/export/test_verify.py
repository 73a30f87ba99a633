"""Verification passes what is right and fails what is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dlm_export.display import cases_table, verify_json
from dlm_export.errors import CheckpointError
from dlm_export.export_options import ExportOptions
from dlm_export.exporting import export_bundle
from dlm_export.families import SpecialOverrides
from dlm_export.verify import CaseResult, VerifyReport, verify_bundle
from dlm_export.verify.cases import Case, Row
from dlm_export.verify.compare import FP32_LOGITS_ABS, compare_case
from dlm_export.verify.decisions import wrong_decisions
from dlm_export.verify.run import same_choices
from dlm_export.verify.session import StepAnswer, StepSession, presents
from dlm_export.verify.torch_reference import Reference, RowAnswer
from dlm_kernels.unmask import parallel_unmask
from dlm_runtime.bundle import Bundle, Precision, write_manifest
from dlm_runtime.errors import BundleError, EngineError

FIXTURES = Path(__file__).parents[1] / "fixtures"
MODES = [
    "prefill",
    "prefill, last token only",
    "prefill with past",
    "denoise",
    "denoise with past",
    "one token",
    "one token with past",
    "verify with past",
    "all modes in one batch",
    "end of the context",
]
RECORDED = ["causal", "bidirectional", "causal_prefix_bidirectional_block", "cached_block", "batch", "long_positions"]


def test_golden_bundle_equals_torch(golden_bundle_path: Path, checkpoint: Any) -> None:
    report = verify_bundle(golden_bundle_path, checkpoint.path)
    assert [result.name for result in report.results] == MODES
    assert report.passed
    assert report.largest_error <= 1e-4
    assert report.agreement == 1
    assert all(result.finite and not result.wrong_decisions for result in report.results)


def test_recorded_logits_go_before_torch(golden_bundle_path: Path, golden_checkpoint: Path) -> None:
    report = verify_bundle(golden_bundle_path, golden_checkpoint)
    assert [result.name for result in report.results] == [f"recorded {name}" for name in RECORDED]
    assert report.passed
    assert all(result.finite and result.agreement == 1 for result in report.results)
    assert [result.tolerance for result in report.results if "long" in result.name] == [0.02]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("tied", [False, True])
def test_every_precision_tied_or_not(checkpoint: Any, out: Path, precision: Precision, tied: bool) -> None:
    if tied:
        checkpoint.tie()
    export_bundle(checkpoint.path, out, ExportOptions(precision=precision))
    report = verify_bundle(out, checkpoint.path, seed=3)
    assert report.passed, report
    assert len(report.results) == len(MODES)


def test_plain_rotary_and_equal_heads(checkpoint: Any, out: Path) -> None:
    """One layer's sizes changed so that every head has its own keys, and no YaRN."""
    keys = [f"encoder.layers.{layer}.self_attn.{part}_proj.weight" for layer in (0, 1) for part in "kv"]
    checkpoint.tensors(lambda tensors: tensors.update({key: tensors[key].repeat(2, 1) for key in keys}))
    checkpoint.config(num_key_value_heads=4, rope_parameters={"rope_type": "default", "rope_theta": 500.0})
    export_bundle(checkpoint.path, out)
    assert verify_bundle(out, checkpoint.path).passed


def test_other_weights_fail(checkpoint: Any, out: Path) -> None:
    export_bundle(checkpoint.path, out)
    checkpoint.tensors(lambda tensors: tensors["encoder.layers.1.mlp.up_proj.weight"].mul_(1.01))
    report = verify_bundle(out, checkpoint.path)
    assert not report.passed
    assert report.largest_error > 1e-4


def test_int8_with_wrong_weights_fails(checkpoint: Any, out: Path) -> None:
    export_bundle(checkpoint.path, out, ExportOptions(precision="int8"))
    checkpoint.tensors(lambda tensors: tensors["encoder.layers.0.self_attn.v_proj.weight"].mul_(-1))
    assert not verify_bundle(out, checkpoint.path).passed


def test_checkpoint_of_another_size(golden_bundle_path: Path, checkpoint: Any) -> None:
    checkpoint.config(num_hidden_layers=1)
    with pytest.raises(CheckpointError, match="layers: is 1, the bundle was made from one with 2"):
        verify_bundle(golden_bundle_path, checkpoint.path)


def test_changed_model_file(checkpoint: Any, out: Path) -> None:
    export_bundle(checkpoint.path, out)
    with (out / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match="has sha256"):
        verify_bundle(out, checkpoint.path)


def test_model_that_does_not_load(checkpoint: Any, out: Path) -> None:
    manifest = export_bundle(checkpoint.path, out).manifest
    (out / "model.onnx").write_bytes(b"\x08\x0anonsense")
    write_manifest(out, manifest)
    assert Bundle.load(out)
    with pytest.raises(EngineError, match="ONNX Runtime cannot load"):
        verify_bundle(out, checkpoint.path)


@pytest.mark.parametrize("name", ["logits.npz", "meta.json"])
@pytest.mark.parametrize("data", [b"broken", b"PK\x03\x04broken", b""])
def test_unreadable_recording(checkpoint: Any, out: Path, golden_checkpoint: Path, name: str, data: bytes) -> None:
    export_bundle(checkpoint.path, out)
    for file in ("logits.npz", "meta.json"):
        (checkpoint.path / file).write_bytes((golden_checkpoint / file).read_bytes() if file != name else data)
    with pytest.raises(CheckpointError, match=name):
        verify_bundle(out, checkpoint.path)


def changed_recording(folder: Path, source: Path, changes: dict[str, Any]) -> None:
    """A folder with the recording of `source`, arrays replaced, or left out where they are None."""
    with np.load(source / "logits.npz") as stored:
        arrays = {key: stored[key] for key in stored.files} | changes
    np.savez(folder / "logits.npz", **{key: value for key, value in arrays.items() if value is not None})
    (folder / "meta.json").write_bytes((source / "meta.json").read_bytes())


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("sdar", {"batch__compare": None}, "batch: lacks compare"),
        ("sdar", {"batch__input_ids": np.zeros((2, 8))}, "batch__input_ids: is float64 of 2 dimensions, expected int64 of 2"),
        ("sdar", {"batch__input_ids": np.zeros(8, np.int64)}, "batch__input_ids: is int64 of 1 dimensions, expected int64 of 2"),
        ("sdar", {"batch__compare": np.ones((2, 8), np.int64)}, "batch__compare: is int64 of 2 dimensions, expected bool of 2"),
        ("sdar", {"batch__input_ids": np.full((2, 8), 256)}, "batch: has arrays that do not fit together"),
        ("sdar", {"cached_block__prefix_ids": None, "cached_block__prefix_logits": None}, "cached_block: has arrays that do not fit"),
        ("sdar", {"cached_block__prefix_ids": np.zeros((1, 3), np.int64)}, "cached_block: has arrays that do not fit together"),
        ("dream", {"prefix_cache__s": None}, "prefix_cache: has arrays that do not fit together"),
        ("dream", {"dual_cache__e": np.array(3)}, "dual_cache: has arrays that do not fit together"),
        ("diffusion_gemma", {"long_prompt_first__prefix_ids": None}, "long_prompt_first: has arrays that do not fit together"),
    ],
)
def test_recording_whose_arrays_cannot_be(
    members: Callable[[str], Any], tmp_path: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    changed_recording(tmp_path, FIXTURES / name, changes)
    with pytest.raises(CheckpointError) as caught:
        verify_bundle(members(name).bundle, tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize("cases", [None, [], {}, "plain", 3, [3], [None]])
def test_recording_that_lists_no_cases(members: Callable[[str], Any], tmp_path: Path, cases: object) -> None:
    changed_recording(tmp_path, FIXTURES / "llada", {})
    (tmp_path / "meta.json").write_text(json.dumps({"logits_cases": cases}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"meta\.json: logits_cases: "):
        verify_bundle(members("llada").bundle, tmp_path)


def test_allowance_grows_with_the_models_own_rounding_and_still_finds_mistakes(checkpoint: Any, out: Path) -> None:
    """Logits in the hundreds cannot agree to 1e-4 in float32."""
    checkpoint.tensors(lambda tensors: tensors["diffusion_head.weight"].mul_(100))
    export_bundle(checkpoint.path, out)
    report = verify_bundle(out, checkpoint.path)
    assert report.largest_error > FP32_LOGITS_ABS
    assert all(FP32_LOGITS_ABS < result.tolerance < 0.02 for result in report.results)
    assert report.passed
    checkpoint.tensors(lambda tensors: tensors["encoder.layers.1.mlp.up_proj.weight"].mul_(1.01))
    assert not verify_bundle(out, checkpoint.path).passed


def test_a_model_that_says_the_same_of_everything(checkpoint: Any, out: Path) -> None:
    checkpoint.tensors(lambda tensors: tensors["diffusion_head.weight"].zero_())
    export_bundle(checkpoint.path, out, ExportOptions(precision="int8"))
    report = verify_bundle(out, checkpoint.path)
    assert report.passed
    assert report.results[0].relative_error == 0


SMALL = {
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_hidden_layers": 1,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 8,
}
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 4, "llama_4_scaling_beta": 0.1}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(
    "changes",
    [
        {"vocab_size": 33, "rope_parameters": YARN},
        {"vocab_size": 1001, "rope_parameters": YARN | {"factor": 1.0}, "num_hidden_layers": 4, "block_size": 33},
        {
            "vocab_size": 33,
            "num_attention_heads": 6,
            "num_key_value_heads": 6,
            "head_dim": 4,
            "block_size": 4,
            "max_position_embeddings": 64,
        },
        {
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "head_dim": 128,
            "rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 0.5},
        },
        {"tie_word_embeddings": True, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    ],
)
def test_other_members_of_the_family(checkpoint: Any, out: Path, changes: dict[str, Any], precision: Precision) -> None:
    checkpoint.redraw(**(SMALL | {"mask_token_id": 20} | changes))
    manifest = export_bundle(checkpoint.path, out, ExportOptions(precision=precision)).manifest
    assert verify_bundle(out, checkpoint.path).passed
    assert manifest.vocab_size == changes.get("vocab_size", 256)


@pytest.fixture(scope="module")
def answered(golden_bundle_path: Path) -> StepAnswer:
    """Two rows of masks, the second one warm."""
    rows = tuple(Row(np.arange(3), np.full(8, 100), np.zeros(8, np.int64)) for _ in range(2))
    session = StepSession(Bundle.load(golden_bundle_path))
    past = [(np.zeros((2, 3, 16), np.float32),) * 2] * 2
    answer = session.answer(Case("test", rows), [past, past], np.random.default_rng(1))
    return session.run(answer.feed | {"allow_rows": np.zeros((2, 8), np.int64)})


def changed(answer: StepAnswer, name: str, change: Callable[[np.ndarray], object]) -> StepAnswer:
    outputs = {key: value.copy() for key, value in answer.outputs.items()}
    change(outputs[name])
    return StepAnswer(answer.feed, outputs)


def test_right_decisions_and_each_kind_of_wrong_one(answered: StepAnswer) -> None:
    assert wrong_decisions(answered, mask_token_id=100) == 0
    for name in ("sampled_ids", "canvas"):
        wrong = changed(answered, name, lambda ids: ids[0].__setitem__(2, (ids[0, 2] + 1) % 256))
        assert wrong_decisions(wrong, mask_token_id=100) == 1
    # Half the confidence at one place is one wrong number; that the canvas no longer follows from it may count elsewhere too.
    assert wrong_decisions(changed(answered, "confidence", lambda p: p[1].__setitem__(0, p[1, 0] / 2)), mask_token_id=100) >= 1


def test_a_near_tie_may_go_either_way(answered: StepAnswer) -> None:
    best = int(answered.outputs["sampled_ids"][0, 2])
    other = best - 1
    tied = changed(answered, "logits", lambda z: z[0, 2].__setitem__(other, z[0, 2, best] + 1e-6))
    inputs = tied.unmask_inputs()
    exact = parallel_unmask(inputs, mask_token_id=100, top_k=8)
    assert exact.sampled_ids[0, 2] == other
    tied.outputs["confidence"][:] = exact.confidence
    commit = exact.canvas != inputs.tokens
    tied.outputs["canvas"][:] = np.where(commit, tied.outputs["sampled_ids"], inputs.tokens)
    assert wrong_decisions(tied, mask_token_id=100) == 0


def test_fp32_counterpart_differs_in_precision_alone(golden_checkpoint: Path, tmp_path: Path) -> None:
    special = SpecialOverrides(mask_token_id=99, eos_token_ids=(7, 8), pad_token_id=9, bos_token_id=10)
    options = ExportOptions(precision="int8", modes=("ar",), max_context=64, block_length=4, special=special)
    chosen = export_bundle(golden_checkpoint, tmp_path / "int8", options).manifest
    counterpart = export_bundle(golden_checkpoint, tmp_path / "fp32", same_choices(chosen)).manifest
    own = {"precision": "int8", "embedding_precision": chosen.embedding_precision, "name": chosen.name, "files": chosen.files}
    assert counterpart.model_copy(update=own) == chosen


@pytest.mark.parametrize("factor", [1.5, np.nan])
def test_keys_and_values_count_in_every_precision(golden_bundle_path: Path, factor: float) -> None:
    session, ids = StepSession(Bundle.load(golden_bundle_path)), np.arange(5)
    case = Case("one row", (Row(np.empty(0, np.int64), ids, np.arange(5)),))
    answer = session.answer(case, [()], np.random.default_rng(0))
    present = [(key.copy(), value.copy()) for key, value in presents(answer, session.manifest.layers, 0)]
    reference = Reference([RowAnswer(answer.outputs["logits"][0].copy(), [], present)])
    assert VerifyReport("bf16", (compare_case(case, answer, reference, session.manifest),)).passed
    answer.outputs["present.1.value"] *= np.float32(factor)
    for precision in ("fp32", "bf16"):
        assert not VerifyReport(precision, (compare_case(case, answer, reference, session.manifest),)).passed


def test_reports_are_json_and_names_no_markup() -> None:
    sound, broken = (CaseResult(name, 1, error, error, 0.0, True) for name, error in (("[/red]", 0.0), ("b", np.nan)))
    for results in ((sound, broken), (broken, sound)):
        report = VerifyReport("fp32", results)
        assert json.loads(json.dumps(verify_json(report), allow_nan=False))["largest_error"] is None
        assert not report.passed
        assert cases_table(report).columns[0]._cells[0] in ("\\[/red]", "b")


def test_recording_without_the_encoders_part(members: Callable[[str], Any]) -> None:
    with pytest.raises(CheckpointError, match="lacks prefix_ids"):
        verify_bundle(members("diffusion_gemma").bundle, FIXTURES / "llada")
