"""A past kept in a device's memory. The device here is ONNX Runtime's own idea of the CPU, with copies counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from dlm_runtime.bundle import Bundle
from dlm_runtime.engines import THRESHOLD_OFF, KeyValues, OnnxEngine, StepBatch
from dlm_runtime.engines.provider import PROVIDERS
from dlm_runtime.engines.remote_past import RemotePasts

PAST_LAYERS = 4  # two layers, keys and values
BFLOAT16 = 16


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry per copy to the device."""
    made: list[object] = []
    send = ort.OrtValue.update_inplace

    def counted(self: ort.OrtValue, data: np.ndarray) -> None:
        made.append(data)
        send(self, data)

    monkeypatch.setattr(ort.OrtValue, "update_inplace", counted)
    return made


@pytest.fixture
def remote_engine(golden_bundle_path: Path) -> Iterator[OnnxEngine]:
    engine = OnnxEngine(Bundle.load(golden_bundle_path), threads=1, provider=replace(PROVIDERS["cpu"], memory="cpu"))
    yield engine
    engine.close()


def make_batch(past: KeyValues, length: int = 6, version: int | None = 1) -> StepBatch:
    rows = past.rows
    return StepBatch(
        input_ids=np.full((rows, length), 100),
        position_ids=np.tile(np.arange(past.tokens, past.tokens + length), (rows, 1)),
        past_lengths=np.full(rows, past.tokens),
        query_lengths=np.full(rows, length),
        block_ids=np.zeros((rows, length), np.int64),
        past=past,
        window_start=np.zeros(rows, np.int64),
        allow_rows=np.zeros((rows, length), np.int64),
        allow_table=np.zeros((1, 256), np.float32),
        quota=np.ones(rows, np.int64),
        threshold=np.full(rows, THRESHOLD_OFF, np.float32),
        temperature=np.zeros(rows, np.float32),
        seed=np.zeros(rows, np.int64),
        step=np.ones(rows, np.int64),
        want_logits=True,
        past_version=version,
    )


def random_past(seed: int, rows: int = 2, tokens: int = 9) -> KeyValues:
    return KeyValues.of(np.random.default_rng(seed).normal(size=(2, 2, rows, 2, tokens, 16)).astype(np.float32))


def logits(engine: OnnxEngine, batch: StepBatch) -> np.ndarray:
    found = engine.step(batch).logits
    assert found is not None
    return found.copy()


def test_it_is_sent_when_its_version_changes(remote_engine, golden_engine, copies: list[object]) -> None:
    past = random_past(0)
    for version, sent in ((1, 1), (1, 1), (2, 2), (2, 2), (None, 3), (None, 4), (2, 5)):
        if len(copies) < sent * PAST_LAYERS:
            past.arrays[0][...] += 1
        batch = make_batch(past, version=version)
        np.testing.assert_allclose(logits(remote_engine, batch), logits(golden_engine, batch), atol=2e-5)
        assert len(copies) == sent * PAST_LAYERS


def test_batches_of_other_shapes_share_it(remote_engine, golden_engine, copies: list[object]) -> None:
    past = random_past(1)
    for length in (6, 3, 1, 6):
        batch = make_batch(past, length)
        np.testing.assert_allclose(logits(remote_engine, batch), logits(golden_engine, batch), atol=2e-5)
    assert len(copies) == PAST_LAYERS


def test_two_pasts_of_one_shape_are_two(remote_engine, golden_engine, copies: list[object]) -> None:
    batches = [make_batch(random_past(seed), version=seed) for seed in (1, 2)]
    for batch in batches * 2:
        np.testing.assert_allclose(logits(remote_engine, batch), logits(golden_engine, batch), atol=2e-5)
    assert len(copies) == 2 * PAST_LAYERS


def test_one_that_lies_in_pieces_and_one_that_is_empty(remote_engine, golden_engine) -> None:
    wide = random_past(3, rows=4, tokens=20)
    for past in (wide.part(slice(1, 3), slice(4, 13)), wide.part(slice(2), slice(0))):
        batch = make_batch(past)
        np.testing.assert_allclose(logits(remote_engine, batch), logits(golden_engine, batch), atol=2e-5)


def test_bfloat16_is_sent_as_such() -> None:
    """NumPy has no such type: the bits are there as uint16, and must not become a tensor of whole numbers."""
    past = KeyValues.of(np.arange(2 * 2 * 2 * 3, dtype=np.uint16).reshape(1, 2, 1, 2, 3, 2))
    pasts = RemotePasts("cpu", BFLOAT16)
    remote = pasts.of(past)
    remote.update(past, 1)
    assert {value.data_type() for value in remote._values.values()} == {"tensor(bfloat16)"}
    assert pasts.of(past) is remote
    del remote
    assert not pasts._pasts
