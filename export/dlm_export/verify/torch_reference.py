"""The plain answer: torch, one row at a time, no padding, the mask written out by hand; and how exact that answer is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..backbones.backbone import KeyValue
from .cases import Case, Row

Floats = NDArray[np.float32]
SMALL_MODEL_PARAMETERS = 100_000_000


@dataclass(frozen=True)
class RowAnswer:
    """What one row computes. P and n are this row's own lengths; keys and values are per layer."""

    logits: Floats  # [n, V]
    past: list[tuple[Floats, Floats]]  # [Hkv, P, dh]
    present: list[tuple[Floats, Floats]]  # [Hkv, n, dh]


@dataclass(frozen=True)
class Reference:
    """A case's answer, row by row. `rounding` is how far any logit, key or value of it is from float64's; 0 where nobody asked."""

    answers: list[RowAnswer]
    rounding: float = 0.0


@contextmanager
def suitable_threads(module: nn.Module) -> Iterator[None]:
    """One thread for a small model: several would spend more time waiting for each other than working, a busy machine's most of all."""
    before = torch.get_num_threads()
    if sum(parameter.numel() for parameter in module.parameters()) < SMALL_MODEL_PARAMETERS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def reference_answers(module: nn.Module, cases: Sequence[Case], *, has_roles: bool, measure_rounding: bool) -> list[Reference]:
    """Answer all cases in float32, and again in float64 where the rounding is wanted.

    The model itself is widened for that and narrowed afterwards, which loses nothing, rather than copied.
    """

    def answers_of(case: Case) -> list[RowAnswer]:
        return [torch_answer(module, row, has_roles=has_roles) for row in case.rows]

    plain = [answers_of(case) for case in cases]
    if not measure_rounding:
        return [Reference(answers) for answers in plain]
    module.double()
    try:
        return [Reference(answers, max(map(distance, answers, answers_of(case)))) for answers, case in zip(plain, cases, strict=True)]
    finally:
        module.float()


def distance(one: RowAnswer, other: RowAnswer) -> float:
    """Largest absolute difference on logits, keys and values."""
    pairs = [(one.logits, other.logits)]
    pairs += [arrays for ours, theirs in zip(one.present, other.present, strict=True) for arrays in zip(ours, theirs, strict=True)]
    return max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)


@torch.no_grad()
def torch_answer(module: nn.Module, row: Row, *, has_roles: bool) -> RowAnswer:
    """Commit the past, then forward the query against it."""
    positions = torch.from_numpy(row.positions)[None]
    past_size, query_size = len(row.past_ids), len(row.query_ids)
    past: list[KeyValue] | None = None
    if past_size:
        mask = seen(row.past_blocks)[None, None]
        _, past = module(torch.from_numpy(row.past_ids)[None], positions[:, :past_size], mask, **role(has_roles, commit=True))
    everything = torch.ones(query_size, past_size, dtype=torch.bool)
    mask = torch.cat((everything, seen(row.block_ids)), dim=1)[None, None]
    query = torch.from_numpy(row.query_ids)[None]
    logits, present = module(query, positions[:, past_size:], mask, past, **role(has_roles, commit=row.commit))
    return RowAnswer(logits[0].numpy(), to_arrays(past or []), to_arrays(present))


def role(has_roles: bool, *, commit: bool) -> dict[str, bool]:
    """The argument that tells an encoder's pass from a decoder's, where a backbone has both."""
    return {"encode": commit} if has_roles else {}


def seen(block_ids: NDArray[np.int64]) -> torch.Tensor:
    """Who sees whom by block ids, bool [n, n]; see graph/mask.py."""
    ids = torch.from_numpy(block_ids)
    level = torch.where(ids < 0, -2 - ids, ids)
    return (ids[None] >= 0) & (ids[None] <= level[:, None]) | torch.eye(len(ids), dtype=torch.bool)


def to_arrays(pairs: list[KeyValue]) -> list[tuple[Floats, Floats]]:
    """Drop the batch dimension of one row's keys and values."""
    return [(key[0].numpy(), value[0].numpy()) for key, value in pairs]
