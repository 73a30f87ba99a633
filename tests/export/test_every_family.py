"""What holds for every architecture: graph and torch agree in every mode, under any block ids, and rows do not touch each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from dlm_export.checkpoint import Checkpoint
from dlm_export.loading import load_module
from dlm_export.verify import verify_bundle
from dlm_export.verify.cases import Case, Row
from dlm_export.verify.session import Past, StepSession, presents
from dlm_export.verify.torch_reference import role
from dlm_runtime.bundle import Bundle

NOTHING = np.empty(0, np.int64)


@pytest.fixture
def session(member: Any) -> StepSession:
    return StepSession(Bundle.load(member.bundle))


def test_every_mode_equals_torch(member: Any) -> None:
    report = verify_bundle(member.bundle, member.checkpoint, seed=11)
    assert len(report.results) == 10
    assert report.passed, report
    assert report.largest_error <= 1e-4


def test_rows_of_one_step_equal_single_rows(session: StepSession) -> None:
    """Mixed lengths in one batch with noise on the padding, positions that start where left padding would have them, and pasts."""
    rng = np.random.default_rng(21)
    vocab_size, layers = session.manifest.vocab_size, session.manifest.layers
    text = rng.integers(0, vocab_size, 9)
    prefix = session.answer(Case("prefix", (Row(NOTHING, text, np.arange(9), commit=True),)), [()], rng)
    past = presents(prefix, layers, 0)
    starts, lengths, pasts = (0, 7, 0, 3, 0, 11), (8, 1, 3, 5, 12, 2), (0, 0, 9, 0, 4, 0)
    rows = tuple(
        Row(
            text[:p],
            rng.integers(0, vocab_size, n),
            rng.integers(0, 3, n),
            query_positions=p + start + np.arange(n),
            commit=True,
        )
        for start, n, p in zip(starts, lengths, pasts, strict=True)
    )
    kept: list[Past] = [[(key[:, :p], value[:, :p]) for key, value in past] if p else () for p in pasts]
    together = session.answer(Case("together", rows), kept, rng)
    for index, row in enumerate(rows):
        alone = session.answer(Case("alone", (row,)), [kept[index]], np.random.default_rng(index))
        size = len(row.query_ids)
        np.testing.assert_allclose(together.outputs["logits"][index, :size], alone.outputs["logits"][0], rtol=0, atol=5e-5)
        for pair, own in zip(presents(together, layers, index), presents(alone, layers, 0), strict=True):
            for found, expected in zip(pair, own, strict=True):
                np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5)
    assert all(np.isfinite(together.outputs[name]).all() for name in ("logits", "confidence", "entropy"))


def mask_by_hand(block_ids: Sequence[int], past: int) -> torch.Tensor:
    """The rule of docs/architecture.md in the slowest words, bool [1, 1, n, past + n]."""
    length = len(block_ids)
    mask = torch.zeros(1, 1, length, past + length, dtype=torch.bool)
    for query in range(length):
        for column in range(past):
            mask[0, 0, query, column] = True
        for key in range(length):
            level = block_ids[query] if block_ids[query] >= 0 else -block_ids[query] - 2
            mask[0, 0, query, past + key] = key == query or 0 <= block_ids[key] <= level
    return mask


def test_any_block_ids_mean_what_they_say(member: Any, session: StepSession) -> None:
    """Repeated, unsorted, negative and huge ids, rows cut short, and pasts of unequal length: one step against torch row by row."""
    rng = np.random.default_rng(4)
    vocab_size, layers = session.manifest.vocab_size, session.manifest.layers
    block_ids = np.array(
        [
            [0, 2, 1, 1, 0, 3, 2],
            [5, 4, 3, 2, 1, 0, -1],
            [-(2**62), 2**62, 0, 0, 2**62, -(2**62), 7],
            rng.integers(-2, 3, 7),
            [9, 9, 9, 9, 0, 0, 0],
        ]
    )
    ids, real, past_lengths = rng.integers(0, vocab_size, (5, 7)), (7, 7, 6, 3, 4), (0, 4, 6, 2, 0)
    text = rng.integers(0, vocab_size, max(past_lengths))
    past = presents(session.answer(Case("past", (Row(NOTHING, text, np.arange(6), commit=True),)), [()], rng), layers, 0)
    rows = tuple(
        Row(text[:p], ids[index, :n], block_ids[index, :n], commit=True)
        for index, (n, p) in enumerate(zip(real, past_lengths, strict=True))
    )
    pasts: list[Past] = [[(key[:, :p], value[:, :p]) for key, value in past] if p else () for p in past_lengths]
    feed = session.answer(Case("blocks", rows), pasts, rng).feed
    logits = session.run(feed | {"input_ids": ids, "block_ids": block_ids}).outputs["logits"]  # what stands on padding has ids, too
    module = load_module(Checkpoint.open(member.checkpoint))
    for index, (n, p) in enumerate(zip(real, past_lengths, strict=True)):
        kept = [tuple(torch.from_numpy(array)[None] for array in pair) for pair in pasts[index]] or None
        own, positions = torch.from_numpy(ids[index : index + 1, :n]), torch.arange(p, p + n)[None]
        with torch.no_grad():
            mask = mask_by_hand(block_ids[index, :n].tolist(), p)
            expected, _ = module(own, positions, mask, kept, **role(session.has_roles, commit=True))
        np.testing.assert_allclose(logits[index, :n], expected[0].numpy(), rtol=0, atol=1e-4)
