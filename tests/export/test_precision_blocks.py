"""Rounding to 4 bits."""

from __future__ import annotations

import numpy as np
import pytest
from dlm_export.precision import rounding
from dlm_export.precision.blocks import BLOCK, HIGHEST, LOWEST, packed, quantize_blocks
from dlm_export.precision.embedding import quantize_rows
from dlm_export.precision.int8 import quantize_weight
from dlm_export.precision.weight_only import quantize_columns

MATRIX = np.random.default_rng(0).standard_t(4, (80, 24)).astype(np.float32)


def blocks_of(matrix: np.ndarray) -> np.ndarray:
    count = -(-len(matrix) // BLOCK)
    filled = np.zeros((count * BLOCK, matrix.shape[1]), np.float32)
    filled[: len(matrix)] = matrix
    return filled.T.reshape(matrix.shape[1], count, BLOCK)


def test_every_block_has_its_own_scale_and_values_of_4_bits() -> None:
    weight = quantize_blocks(MATRIX)
    assert (weight.values.shape, weight.scales.shape, weight.blocks) == ((24, 3, 32), (24, 3), 3)
    assert (weight.values.min(), weight.values.max()) == (LOWEST, HIGHEST)
    assert not weight.values[:, -1, 16:].any()  # filled up


def test_no_block_is_rounded_worse_than_by_its_peaks_scale() -> None:
    parts = blocks_of(MATRIX)
    peaks = np.take_along_axis(parts, np.abs(parts).argmax(-1)[..., None], -1)
    plain = np.clip(np.rint(parts / (peaks / LOWEST)), LOWEST, HIGHEST) * (peaks / LOWEST)
    weight = quantize_blocks(MATRIX)
    errors = np.square(weight.values * weight.scales[..., None] - parts).sum(-1)
    plain_errors = np.square(plain - parts).sum(-1)
    assert (errors <= plain_errors + 1e-6).all()
    assert errors.sum() < 0.95 * plain_errors.sum()


@pytest.mark.parametrize("scale_type", [np.float32, np.float16])
def test_blocks_of_zeros_and_of_tiny_numbers_stay_finite(scale_type: type) -> None:
    matrix = np.zeros((64, 2), np.float32)
    matrix[40, 1] = 1e-12
    weight = quantize_blocks(matrix, scale_type)
    assert np.isfinite(weight.scales).all()
    assert (weight.scales != 0).all()
    assert np.abs(weight.values * weight.scales.astype(np.float32)[..., None]).max() < 1e-6


def test_the_scale_as_stored_is_the_one_rounded_by() -> None:
    weight = quantize_blocks(MATRIX, np.float16)
    assert weight.scales.dtype == np.float16
    errors = np.abs(weight.values * weight.scales.astype(np.float32)[..., None] - blocks_of(MATRIX))
    inside = (weight.values > LOWEST) & (weight.values < HIGHEST)
    assert (errors[inside] <= 0.501 * np.broadcast_to(np.abs(weight.scales)[..., None], errors.shape)[inside]).all()


def test_packed_puts_the_first_number_into_the_low_half() -> None:
    assert packed(np.array([[1, 2, -1, 0]], np.int8)).tolist() == [[0x21, 0x0F]]


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_of_them() -> list[np.ndarray]:
        four, eight = quantize_blocks(MATRIX), quantize_weight(MATRIX)
        return [four.values, four.scales, eight.values, eight.scales, *quantize_columns(MATRIX), *quantize_rows(MATRIX)]

    whole = all_of_them()
    monkeypatch.setattr(rounding, "CHUNK_NUMBERS", 100)
    for one, other in zip(whole, all_of_them(), strict=True):
        np.testing.assert_array_equal(one, other)
