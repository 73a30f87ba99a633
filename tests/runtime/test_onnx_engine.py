"""The ONNX Runtime engine on the tiny golden model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dlm_runtime.bundle import Bundle, write_manifest
from dlm_runtime.engines import THRESHOLD_OFF, KeyValues, OnnxEngine, StepBatch, StepResult, block_ids
from dlm_runtime.errors import EngineError

MASK = 100
LOGITS_TOLERANCE = 2e-5


def make_batch(rows: int, length: int, past_tokens: int, window: int, seed: int = 0, **wants: bool) -> StepBatch:
    """Rows of different real lengths with random tokens, a third of them masks."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(101, 256, (rows, length))
    ids[rng.random(ids.shape) < 0.3] = MASK
    past_lengths = rng.integers(0, past_tokens + 1, rows)
    table = np.zeros((1, 256), np.float32)
    table[0, MASK] = -np.inf
    return StepBatch(
        input_ids=ids,
        position_ids=past_lengths[:, None] + np.arange(length),
        past_lengths=past_lengths,
        query_lengths=rng.integers(window, length + 1, rows),
        block_ids=block_ids((rng.random(rows) < 0.5).tolist(), length),
        past=KeyValues.of(rng.normal(size=(2, 2, rows, 2, past_tokens, 16)).astype(np.float32)),
        window_start=np.zeros(rows, np.int64),
        allow_rows=np.zeros((rows, window), np.int64),
        allow_table=table,
        quota=np.ones(rows, np.int64),
        threshold=np.full(rows, THRESHOLD_OFF, np.float32),
        temperature=rng.choice([0.0, 0.9], rows).astype(np.float32),
        seed=rng.integers(0, 2**40, rows),
        step=rng.integers(0, 9, rows),
        **wants,
    )


def one_row(batch: StepBatch, row: int) -> StepBatch:
    """The row alone, without padding."""
    query, past = int(batch.query_lengths[row]), int(batch.past_lengths[row])
    alone = slice(row, row + 1)
    per_row = ("past_lengths", "query_lengths", "window_start", "allow_rows", "quota", "threshold", "temperature", "seed", "step")
    return replace(
        batch,
        input_ids=batch.input_ids[alone, :query],
        position_ids=batch.position_ids[alone, :query],
        block_ids=batch.block_ids[alone, :query],
        past=batch.past.part(alone, slice(past)).copy(),
        **{name: getattr(batch, name)[alone] for name in per_row},
    )


def copied(result: StepResult) -> dict[str, np.ndarray]:
    names = ("canvas", "sampled_ids", "committed", "confidence", "entropy", "logits")
    present = {} if result.present is None else {"present": result.present.arrays[0].copy()}
    return present | {name: array.copy() for name in names if (array := getattr(result, name)) is not None}


def test_rows_of_a_batch_are_what_they_are_alone(golden_engine) -> None:
    batch = make_batch(7, 12, 20, 6, want_present=True, want_confidence=True, want_logits=True)
    together = copied(golden_engine.step(batch))
    for row in range(7):
        alone = copied(golden_engine.step(one_row(batch, row)))
        query = int(batch.query_lengths[row])
        np.testing.assert_array_equal(alone["canvas"][0], together["canvas"][row])
        np.testing.assert_array_equal(alone["sampled_ids"][0], together["sampled_ids"][row])
        np.testing.assert_allclose(alone["logits"][0], together["logits"][row], atol=LOGITS_TOLERANCE)
        np.testing.assert_allclose(alone["present"][:, :, 0], together["present"][:, :, row, :, :query], atol=LOGITS_TOLERANCE)


def test_block_ids_of_padding_are_of_no_account(golden_engine) -> None:
    batch = make_batch(5, 12, 20, 4, want_present=True, want_confidence=True, want_logits=True)
    expected = copied(golden_engine.step(batch))
    padding = np.arange(12) >= batch.query_lengths[:, None]
    assert padding.any()
    others = np.where(padding, np.random.default_rng(1).integers(-50, 50, padding.shape), batch.block_ids)
    found = copied(golden_engine.step(replace(batch, block_ids=others)))
    for name in ("canvas", "sampled_ids", "committed", "confidence", "entropy", "logits"):  # windows hold real tokens only
        np.testing.assert_array_equal(found[name], expected[name])
    for row, query in enumerate(batch.query_lengths):
        np.testing.assert_array_equal(found["present"][:, :, row, :, :query], expected["present"][:, :, row, :, :query])


def test_blocks_are_seen_whole_from_the_next_one_on(golden_engine) -> None:
    """A block-causal step over two blocks is two steps, one block each, the first in the past of the second."""
    whole = replace(make_batch(1, 8, 0, 8, want_present=True, want_logits=True), block_ids=np.arange(8)[None] // 4)
    expected = copied(golden_engine.step(whole))

    def half(start: int, past: KeyValues) -> dict[str, np.ndarray]:
        part = slice(start, start + 4)
        lengths = {"past_lengths": np.array([start]), "query_lengths": np.array([4])}
        ids = {"input_ids": whole.input_ids[:, part], "position_ids": whole.position_ids[:, part], "block_ids": np.zeros((1, 4), np.int64)}
        return copied(golden_engine.step(replace(whole, **ids, **lengths, past=past, allow_rows=np.zeros((1, 4), np.int64))))

    first = half(0, whole.past)
    second = half(4, KeyValues.of(first["present"]))
    for name, axis in (("logits", 1), ("present", 4)):
        np.testing.assert_allclose(np.concatenate([first[name], second[name]], axis), expected[name], atol=LOGITS_TOLERANCE)


def test_outputs_nobody_asked_for_are_left_out(golden_engine) -> None:
    result = golden_engine.step(make_batch(2, 8, 4, 8))
    assert all(getattr(result, name) is None for name in ("confidence", "entropy", "top_ids", "top_logprobs", "present", "logits"))
    result = golden_engine.step(make_batch(2, 8, 4, 8, want_top=True))
    assert result.top_ids is not None
    assert result.top_ids.shape == (2, 8, golden_engine.manifest.top_k)
    assert result.present is None


def test_past_is_read_anew_in_every_step_wherever_it_lies(golden_engine) -> None:
    batch = make_batch(3, 8, 16, 8, want_logits=True)
    expected = copied(golden_engine.step(batch))["logits"]
    (array,) = batch.past.arrays
    changed = array.copy()
    array[:] = 0
    assert np.abs(golden_engine.step(batch).logits - expected).max() > 0.01
    array[:] = changed
    np.testing.assert_array_equal(golden_engine.step(batch).logits, expected)
    wide = np.full((2, 2, 3, 2, 40, 16), np.float32(7))
    wide[..., :16, :] = changed
    np.testing.assert_array_equal(golden_engine.step(replace(batch, past=KeyValues.of(wide).part(tokens=slice(16)))).logits, expected)
    wide[..., :16, :] = 0
    assert np.abs(golden_engine.step(replace(batch, past=KeyValues.of(wide).part(tokens=slice(16)))).logits - expected).max() > 0.01


def test_many_shapes_keep_few_bindings(golden_bundle_path: Path) -> None:
    engine = OnnxEngine(Bundle.load(golden_bundle_path), threads=1)
    for number in range(1, 60):
        engine.step(make_batch(1 + number % 3, 4 + number, number, 2, seed=number))
    assert len(engine._bindings) <= 32
    engine.close()


def test_failing_step_leaves_the_engine_usable(golden_engine) -> None:
    batch = make_batch(2, 8, 4, 8)
    expected = copied(golden_engine.step(batch))
    with pytest.raises(EngineError, match="2 rows of 8 tokens"):
        golden_engine.step(replace(batch, input_ids=batch.input_ids + 1000))
    np.testing.assert_array_equal(golden_engine.step(batch).canvas, expected["canvas"])


def test_closed_engine(golden_bundle_path: Path) -> None:
    engine = OnnxEngine(Bundle.load(golden_bundle_path), threads=1)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.step(make_batch(1, 4, 0, 1))


@pytest.mark.parametrize("damage", [lambda data: b"not a model", lambda data: data[: len(data) // 2], lambda data: b""])
def test_damaged_model(golden_bundle_path: Path, tmp_path: Path, damage) -> None:
    folder = shutil.copytree(golden_bundle_path, tmp_path / "bundle")
    model = folder / "model.onnx"
    model.write_bytes(damage(model.read_bytes()))
    with pytest.raises(EngineError) as caught:
        OnnxEngine(Bundle.load(folder, verify_hashes=False))
    assert str(model) in str(caught.value)
    assert "dlm-export" in caught.value.remedy


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": 3}, "no input 'past.2.key'"),
        ({"layers": 1}, "'past.1.key' that nothing supplies"),
        ({"vocab_size": 300}, "'allow_table' has shape"),
        ({"head_dim": 8}, "'past.0.key' has shape"),
        ({"top_k": 4}, "'top_ids' has shape"),
        ({"layer_caches": ((2, 16), (1, 16))}, "'past.1.key' has shape"),
        ({"cache_type": "float16"}, r"'past.0.key' is tensor\(float\), not tensor\(float16\)"),
    ],
)
def test_manifest_of_another_model(golden_bundle_path: Path, tmp_path: Path, change: dict[str, object], said: str) -> None:
    folder = shutil.copytree(golden_bundle_path, tmp_path / "bundle")
    write_manifest(folder, Bundle.load(folder).manifest.model_copy(update={**change, "files": {}}))
    with pytest.raises(EngineError, match=said):
        OnnxEngine(Bundle.load(folder))
