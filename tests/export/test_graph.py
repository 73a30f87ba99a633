"""The step graph: its form, and that neither padding nor caching nor neighbours change what a row computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from dlm_export.export_options import ExportOptions
from dlm_export.exporting import export_bundle
from dlm_export.verify.cases import Case, Row
from dlm_export.verify.decisions import wrong_decisions
from dlm_export.verify.session import Past, StepAnswer, StepSession
from dlm_runtime.bundle import Bundle

LAYERS = 2
RNG = np.random.default_rng(5)
TEXT = RNG.integers(0, 256, 30)
NOTHING = np.empty(0, np.int64)


@pytest.fixture(scope="module", params=["fp32", "int8"])
def session(request: pytest.FixtureRequest, golden_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> StepSession:
    folder = tmp_path_factory.mktemp("graph") / request.param
    export_bundle(golden_checkpoint, folder, ExportOptions(precision=request.param))
    return StepSession(Bundle.load(folder))


@pytest.fixture(scope="module")
def model(golden_bundle_path: Path) -> onnx.ModelProto:
    return onnx.load(golden_bundle_path / "model.onnx")


def seeing(past_ids: np.ndarray, query_ids: np.ndarray, causal: bool) -> Row:
    """A row whose query is causal, or sees itself whole."""
    length = len(query_ids)
    return Row(past_ids, query_ids, np.arange(length) if causal else np.zeros(length, np.int64))


def step(session: StepSession, *rows: Row, pasts: list[Past] | None = None, noise: int = 0) -> StepAnswer:
    """One step; `noise` seeds what stands on padding."""
    return session.answer(Case("test", rows), pasts or [()] * len(rows), np.random.default_rng(noise))


def past_of(answer: StepAnswer, row: int, size: int) -> Past:
    """The first `size` keys and values that a step computed for a row."""
    outputs = answer.outputs
    return [(outputs[f"present.{i}.key"][row, :, :size], outputs[f"present.{i}.value"][row, :, :size]) for i in range(LAYERS)]


def close(session: StepSession, found: np.ndarray, expected: np.ndarray) -> None:
    """Equal up to rounding; in int8 one row's rounding may move a value by one of 127 steps, hence the wider bound."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5 if session.manifest.precision == "fp32" else 0.5)
    assert np.median(np.abs(found - expected)) < 1e-2


@pytest.mark.parametrize("causal", [True, False])
def test_cached_equals_uncached(session: StepSession, causal: bool) -> None:
    """A causal prefix of 12 and what follows, against all of it at once (causal) or against two steps of the prefix (block)."""
    whole = step(session, seeing(NOTHING, TEXT, causal=True))
    prefix = step(session, seeing(NOTHING, TEXT[:12], causal=True))
    again = step(session, seeing(TEXT[:5], TEXT[5:12], causal=True), pasts=[past_of(prefix, 0, 5)])
    rebuilt: Past = [
        (np.concatenate((k, again.outputs[f"present.{i}.key"][0]), 1), np.concatenate((v, again.outputs[f"present.{i}.value"][0]), 1))
        for i, (k, v) in enumerate(past_of(prefix, 0, 5))
    ]
    after = step(session, seeing(TEXT[:12], TEXT[12:], causal), pasts=[past_of(prefix, 0, 12)])
    if causal:
        close(session, after.outputs["logits"][0], whole.outputs["logits"][0, 12:])
    else:
        close(session, after.outputs["logits"], step(session, seeing(TEXT[:12], TEXT[12:], causal), pasts=[rebuilt]).outputs["logits"])


def test_what_stands_on_padding_does_not_matter(session: StepSession) -> None:
    prefix = step(session, seeing(NOTHING, TEXT[:20], causal=True))
    rows = (seeing(TEXT[:7], TEXT[7:12], causal=False), seeing(TEXT[:20], TEXT[20:], causal=False), seeing(NOTHING, TEXT[:3], causal=True))
    pasts: list[Past] = [past_of(prefix, 0, 7), past_of(prefix, 0, 20), ()]
    first, second = (step(session, *rows, pasts=pasts, noise=noise).outputs["logits"] for noise in (1, 2))
    for index, row in enumerate(rows):
        size = len(row.query_ids)
        np.testing.assert_array_equal(first[index, :size], second[index, :size])
    assert np.isfinite(first).all()


def test_a_row_is_the_same_alone_and_among_others(session: StepSession) -> None:
    prefix = step(session, seeing(NOTHING, TEXT[:20], causal=True))
    row, past = seeing(TEXT[:7], TEXT[7:12], causal=False), past_of(prefix, 0, 7)
    alone = step(session, row, pasts=[past]).outputs["logits"][0]
    others = [seeing(TEXT[:20], TEXT[20:], causal=True), seeing(NOTHING, TEXT[:9], causal=False)]
    among = step(session, others[0], row, others[1], pasts=[past_of(prefix, 0, 20), past, ()]).outputs["logits"][1, :5]
    close(session, among, alone)


@pytest.mark.parametrize("causal", [True, False])
def test_longer_pasts_beside_a_row_change_nothing_at_all(session: StepSession, causal: bool) -> None:
    """Unused past columns only add zeros at the end of sums, so even the rounding stays; int8 would multiply a difference."""
    prefix = step(session, seeing(NOTHING, TEXT[:22], causal=True))
    row, past = seeing(TEXT[:7], TEXT[7:15], causal), past_of(prefix, 0, 7)
    alone = step(session, row, pasts=[past]).outputs["logits"][0]
    other = seeing(TEXT[:22], TEXT[22:], causal=False)
    among = step(session, other, row, other, pasts=[past_of(prefix, 0, 22), past, past_of(prefix, 0, 22)]).outputs["logits"][1]
    np.testing.assert_allclose(among, alone, rtol=0, atol=1e-6)


def test_causal_rows_do_not_look_ahead(session: StepSession) -> None:
    changed = TEXT.copy()
    changed[-1] = (changed[-1] + 1) % 256
    one, other = (step(session, seeing(NOTHING, text, causal=True)).outputs["logits"][0] for text in (TEXT, changed))
    np.testing.assert_array_equal(one[:-1], other[:-1])
    bidirectional = [step(session, seeing(NOTHING, text, causal=False)).outputs["logits"][0, :-1] for text in (TEXT, changed)]
    assert np.abs(bidirectional[0] - bidirectional[1]).max() > 0.1


def test_window_past_the_end_is_measured_but_not_committed(session: StepSession) -> None:
    mask = session.manifest.mask_token_id
    answer = step(session, seeing(NOTHING, np.full(8, mask), causal=False))
    feed = answer.feed | {"window_start": np.array([5]), "quota": np.array([8]), "threshold": np.zeros(1, np.float32)}
    outputs = session.run(feed).outputs
    assert outputs["committed"].tolist() == [3]
    assert (outputs["canvas"][0, 3:] == mask).all()


def test_a_row_without_any_tokens_is_finite_and_commits_nothing(session: StepSession) -> None:
    """`query_lengths` 0 beside a real row, masks on the padding, and a past that nobody has."""
    answer = step(
        session, seeing(NOTHING, np.full(4, session.manifest.mask_token_id), causal=False), seeing(NOTHING, TEXT[:2], causal=True)
    )
    past = {name: np.full((2, 2, 5, 16), 9.0, np.float32) for name in answer.feed if name.startswith("past.")}
    lengths = {"query_lengths": np.array([0, 2]), "quota": np.array([4, 4])}
    outputs = session.run(answer.feed | past | lengths).outputs
    assert outputs["committed"].tolist() == [0, 0]
    assert all(np.isfinite(value).all() for name, value in outputs.items() if name != "top_logprobs")
    close(session, outputs["logits"][1, :2], answer.outputs["logits"][1, :2])


@pytest.mark.parametrize(("start", "size"), [(0, 3), (2, 4), (7, 1)])
def test_a_window_is_that_part_of_the_whole(session: StepSession, start: int, size: int) -> None:
    answer = step(session, seeing(NOTHING, np.where(np.arange(8) % 2, session.manifest.mask_token_id, TEXT[:8]), causal=False))
    part = answer.feed | {"window_start": np.array([start]), "allow_rows": answer.feed["allow_rows"][:, start : start + size]}
    outputs = session.run(part).outputs
    for name in ("logits", "sampled_ids", "confidence", "entropy", "top_ids"):
        np.testing.assert_allclose(outputs[name], answer.outputs[name][:, start : start + size], rtol=0, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(outputs["present.1.key"], answer.outputs["present.1.key"])


def test_masks_behind_a_draft_see_what_was_drafted_before_them(session: StepSession) -> None:
    """Causal tokens, then as many masks at the same positions with ids -1, -2, ...: mask i sees the past, tokens 0 .. i - 1, itself."""
    count, mask = 5, np.array([session.manifest.mask_token_id])
    prefix = step(session, seeing(NOTHING, TEXT[: 7 + count], causal=True))
    query = np.concatenate((TEXT[7 : 7 + count], np.repeat(mask, count)))
    ids = np.concatenate((np.arange(count), -1 - np.arange(count)))
    positions = 7 + np.tile(np.arange(count), 2)
    row = Row(TEXT[:7], query, ids, query_positions=positions)
    together = step(session, row, pasts=[past_of(prefix, 0, 7)]).outputs["logits"][0]
    close(session, together[:count], prefix.outputs["logits"][0, 7 : 7 + count])
    for index in range(count):
        alone = step(session, seeing(TEXT[: 7 + index], mask, causal=False), pasts=[past_of(prefix, 0, 7 + index)])
        close(session, together[count + index], alone.outputs["logits"][0, 0])


@pytest.mark.parametrize(("start", "size"), [(0, 8), (0, 3), (3, 4), (6, 4)])
def test_a_shift_lets_the_token_before_speak(session: StepSession, start: int, size: int) -> None:
    """Of two rows only the second is shifted; tokens, positions and padding stay those of the window."""
    ids = np.where(np.arange(8) % 2, session.manifest.mask_token_id, TEXT[:8])
    answer = step(session, seeing(NOTHING, ids, causal=False), seeing(NOTHING, ids, causal=False))
    window = {
        "window_start": np.full(2, start),
        "allow_rows": np.zeros((2, size), np.int64),
        "quota": np.full(2, size),
        "temperature": np.full(2, 0.5, np.float32),
        "seed": np.full(2, 9),
    }
    outputs = session.run(answer.feed | window | {"shift": np.array([0, 1])}).outputs
    places = np.minimum(np.arange(start, start + size), 7)
    speakers = np.clip(np.arange(start, start + size) - 1, 0, 7)
    np.testing.assert_allclose(outputs["logits"][0], answer.outputs["logits"][0, places], rtol=0, atol=1e-5)
    np.testing.assert_allclose(outputs["logits"][1], answer.outputs["logits"][1, speakers], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(outputs["present.1.key"], answer.outputs["present.1.key"])
    open_places = np.flatnonzero((ids[places] == session.manifest.mask_token_id) & (np.arange(start, start + size) < 8))
    assert outputs["committed"].tolist() == [len(open_places)] * 2
    kept = np.setdiff1d(np.arange(size), open_places)
    np.testing.assert_array_equal(outputs["canvas"][:, kept], ids[places][kept][None].repeat(2, 0))
    np.testing.assert_array_equal(outputs["canvas"][:, open_places], outputs["sampled_ids"][:, open_places])


def test_shaped_logits_decide_and_raw_ones_come_out(session: StepSession) -> None:
    """Every wish through the whole graph, judged by the numpy references; rows that wish nothing stay as they were."""
    ids = np.where(np.arange(8) % 2, session.manifest.mask_token_id, TEXT[:8])
    answer = step(session, *(seeing(NOTHING, ids, causal=False) for _ in range(4)))
    wishes = {
        "guidance": np.array([0, 1.5, 0, 0], np.float32),
        "guidance_rows": np.array([0, 2, 0, 0]),
        "repetition_penalty": np.array([1, 1.3, 1, 1], np.float32),
        "recent_ids": np.tile(TEXT[:6], (4, 1)),
        "scale": np.array([1, 1, 1.25, 1], np.float32),
        "sample_top_k": np.array([0, 0, 9, 0]),
        "sample_top_p": np.array([1, 1, 1, 0.7], np.float32),
        "measure": np.array([0, 1, 2, 1]),
        "factor": np.array([0, 1, 0, 3], np.float32),
        "rank_temperature": np.array([0, 0, 0.5, 0.1], np.float32),
    }
    found = session.run(answer.feed | wishes)
    np.testing.assert_allclose(found.outputs["logits"], answer.outputs["logits"], rtol=0, atol=1e-6)
    assert wrong_decisions(found, mask_token_id=session.manifest.mask_token_id) == 0
    for name in ("canvas", "sampled_ids", "confidence", "entropy"):
        np.testing.assert_allclose(found.outputs[name][0], answer.outputs[name][0], rtol=0, atol=1e-6, err_msg=name)


def test_shaping_and_decision_are_one_node_each_that_needs_its_body(session: StepSession) -> None:
    model = onnx.load(session.model_path)
    onnx.checker.check_model(model, full_check=True)
    names = [name for node in model.graph.node for name in node.output]
    assert len(names) == len(set(names))
    functions = list(model.functions)
    for missing in ("ParallelUnmask", "ShapeLogits"):
        del model.functions[:]
        model.functions.extend(function for function in functions if function.name != missing)
        with pytest.raises(Exception, match=rf"{missing}.* is not a registered function"):
            onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_form_of_the_model(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18), ("dlm", 1)]
    assert model.ir_version == 10
    functions = {f"{function.domain}::{function.name}" for function in model.functions}
    assert functions == {"dlm::ShapeLogits", "dlm::ParallelUnmask", "dlm::GumbelNoise", "dlm::Scramble"}
    foreign = {node.domain for node in model.graph.node} - {"", "dlm"}
    assert not foreign
    unmask = [node for node in model.graph.node if node.op_type == "ParallelUnmask"]
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in unmask[0].attribute}
    assert attributes == {"mask_token_id": 100, "top_k": 8, "plugin_namespace": b"dlm", "plugin_version": b"1"}


def test_names_follow_the_checkpoint(model: onnx.ModelProto) -> None:
    initializers = {tensor.name for tensor in model.graph.initializer}
    assert {
        "encoder.embed_tokens.weight",
        "encoder.layers.1.self_attn.qkv_proj.weight",
        "encoder.layers.1.mlp.gate_up_proj.weight",
        "encoder.layers.1.mlp.down_proj.weight",
        "encoder.norm.weight",
        "diffusion_head.weight",
    } <= initializers
    names = [node.name for node in model.graph.node]
    assert len(names) == len(set(names))
    assert {"layers.0.self_attn.o_proj", "layers.1.mlp.down_proj", "mask.bias", "rotary.cos", "unmask"} <= set(names)


def test_inputs_and_outputs(model: onnx.ModelProto) -> None:
    assert [value.name for value in model.graph.input] == [
        *("input_ids", "position_ids", "past_lengths", "query_lengths", "block_ids"),
        *(f"past.{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")),
        *("window_start", "shift", "allow_rows", "allow_table"),
        *("scale", "sample_top_k", "sample_top_p", "repetition_penalty", "recent_ids", "guidance", "guidance_rows"),
        *("quota", "threshold", "factor", "measure", "temperature", "rank_temperature", "seed", "step"),
    ]
    assert [value.name for value in model.graph.output] == [
        *("canvas", "committed", "sampled_ids", "confidence", "entropy", "top_ids", "top_logprobs"),
        *(f"present.{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")),
        "logits",
    ]
