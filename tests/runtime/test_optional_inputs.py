"""Inputs that a batch may leave out: neutral then, and never what an earlier batch of the same shape asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dlm_export.exporting import export_bundle
from dlm_runtime.bundle import Bundle, Manifest
from dlm_runtime.engines import THRESHOLD_OFF, KeyValues, OnnxEngine, StepBatch
from dlm_runtime.engines.neutral import neutral_inputs, neutral_roles

ROWS, LENGTH = 3, 8
OUTPUTS = ("canvas", "sampled_ids", "committed", "confidence", "entropy", "logits")


def make_batch(manifest: Manifest, **changed: Any) -> StepBatch:
    """Every other token is a mask, or a random one where the model has none."""
    rng = np.random.default_rng(0)
    ids = rng.integers(101, manifest.vocab_size, (ROWS, LENGTH))
    if manifest.mask_token_id is not None:
        ids[:, ::2] = manifest.mask_token_id
    batch = StepBatch(
        input_ids=ids,
        position_ids=np.tile(np.arange(LENGTH), (ROWS, 1)),
        past_lengths=np.zeros(ROWS, np.int64),
        query_lengths=np.full(ROWS, LENGTH),
        block_ids=np.zeros((ROWS, LENGTH), np.int64),
        past=KeyValues.zeros(manifest, ROWS, 0),
        window_start=np.zeros(ROWS, np.int64),
        allow_rows=np.zeros((ROWS, LENGTH), np.int64),
        allow_table=np.zeros((1, manifest.vocab_size), np.float32),
        quota=np.ones(ROWS, np.int64),
        threshold=np.full(ROWS, THRESHOLD_OFF, np.float32),
        temperature=np.zeros(ROWS, np.float32),
        seed=np.arange(ROWS),
        step=np.ones(ROWS, np.int64),
        want_confidence=True,
        want_logits=True,
    )
    return replace(batch, **changed)


def answer(engine: OnnxEngine, **changed: Any) -> dict[str, np.ndarray]:
    result = engine.step(make_batch(engine.manifest, **changed))
    return {name: getattr(result, name).copy() for name in OUTPUTS}


WISHES: dict[str, dict[str, Any]] = {
    "shift": {"shift": np.ones(ROWS, np.int64)},
    "factor": {"factor": np.full(ROWS, 9, np.float32)},
    "measure": {"measure": np.array([2, 1, 2])},
    "rank_temperature": {"rank_temperature": np.full(ROWS, 50, np.float32)},
    "scale": {"scale": np.full(ROWS, 0.5, np.float32)},
    "sample_top_k": {"sample_top_k": np.full(ROWS, 2)},
    "sample_top_p": {"sample_top_p": np.full(ROWS, 0.3, np.float32)},
    "repetition_penalty": {"repetition_penalty": np.full(ROWS, 3, np.float32), "recent_ids": np.tile(np.arange(256), (ROWS, 1))},
    "guidance": {"guidance": np.full(ROWS, 2, np.float32), "guidance_rows": np.array([1, 2, 0])},
}


@pytest.mark.parametrize("wish", WISHES)
def test_a_wish_is_heard_and_forgotten(golden_engine: OnnxEngine, wish: str) -> None:
    plain = answer(golden_engine)
    assert any((plain[name] != found).any() for name, found in answer(golden_engine, **WISHES[wish]).items())
    for name, found in answer(golden_engine).items():
        np.testing.assert_array_equal(found, plain[name], err_msg=name)
    named_neutral = {name: neutral_inputs(ROWS)[name] for name in WISHES[wish]}
    for name, found in answer(golden_engine, **named_neutral).items():
        np.testing.assert_array_equal(found, plain[name], err_msg=name)


def test_recent_tokens_may_be_more_or_fewer_from_step_to_step(golden_engine: OnnxEngine) -> None:
    penalty = np.full(ROWS, 1000, np.float32)
    plain = answer(golden_engine)
    best = plain["sampled_ids"][:, :1]
    for count in (1, 3, 0, 2):
        recent = np.full((ROWS, count), -1)
        recent[:, :1] = best
        avoided = answer(golden_engine, repetition_penalty=penalty, recent_ids=recent)["sampled_ids"][:, :1] != best
        assert avoided.all() == (count > 0)


def test_a_model_with_an_encoder_is_fed_its_inputs(tmp_path: Path) -> None:
    """DiffusionGemma: left out, rows are denoised as on a first step; given, they are heard."""
    fixture = Path(__file__).parents[1] / "fixtures" / "diffusion_gemma"
    export_bundle(fixture, tmp_path / "bundle")
    engine = OnnxEngine(Bundle.load(tmp_path / "bundle"), threads=1)
    plain = answer(engine)
    roles = neutral_roles(ROWS, engine.manifest.vocab_size)
    np.testing.assert_array_equal(answer(engine, **roles)["logits"], plain["logits"])
    assert (plain["committed"] == 0).all()
    encoded = answer(engine, encode=np.array([False, True, False]))["logits"]
    assert [(row != own).any() for row, own in zip(encoded, plain["logits"], strict=True)] == [False, True, False]
    before = np.random.default_rng(1).normal(0, 3, plain["logits"].shape).astype(np.float32)
    conditioned = answer(engine, self_conditioning=before, self_conditioned=np.array([True, False, False]))["logits"]
    assert [bool(np.abs(row - own).max() > 1e-3) for row, own in zip(conditioned, plain["logits"], strict=True)] == [True, False, False]
    engine.close()
