"""What is compared: rows of random tokens for every mode of the graph."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from dlm_runtime.bundle import Manifest
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """One row of a step: tokens already committed, and tokens forwarded now.

    `block_ids` say who of the latter sees whom (see graph/mask.py), `past_blocks` how the past was committed, all at once and by the
    same rule. Positions count from `first_position`, unless `query_positions` gives those of the query. `commit` says that the query is
    to be committed, not denoised, for networks that have a part for each.
    """

    past_ids: Ints  # [p], p may be 0
    query_ids: Ints  # [n], n >= 1
    block_ids: Ints  # [n]
    past_blocks: Ints = field(default_factory=lambda: np.empty(0, np.int64))  # [p]
    first_position: int = 0
    query_positions: Ints | None = None  # [n]
    commit: bool = False

    def __post_init__(self) -> None:
        if len(self.query_ids) < 1:
            raise ValueError("query_ids must hold at least one token")

    @property
    def positions(self) -> Ints:
        """Position ids of past and query together, [p + n]."""
        counted = self.first_position + np.arange(len(self.past_ids) + len(self.query_ids))
        if self.query_positions is not None:
            counted[len(self.past_ids) :] = self.query_positions
        return counted


@dataclass(frozen=True)
class Case:
    """Rows that share one step. `last_only` asks for the logits of each row's last token alone, as prefill does."""

    name: str
    rows: tuple[Row, ...]
    last_only: bool = False

    @property
    def length(self) -> int:
        """L: the longest query."""
        return max(len(row.query_ids) for row in self.rows)

    @property
    def past_length(self) -> int:
        """P: the longest past."""
        return max(len(row.past_ids) for row in self.rows)


@dataclass(frozen=True)
class CaseMaker:
    """Draws rows for a model. Half of a denoised block is masks, or random tokens where the family has no mask, as in decoding."""

    manifest: Manifest
    rng: np.random.Generator

    def tokens(self, count: int) -> Ints:
        """Any token ids."""
        return self.rng.integers(0, self.manifest.vocab_size, count)

    def block(self, count: int) -> Ints:
        """Token ids with about half of them masked."""
        drawn, mask = self.tokens(count), self.manifest.mask_token_id
        return drawn if mask is None else np.where(self.rng.random(count) < 0.5, mask, drawn)

    def committed(self, count: int, start: int = 0) -> Ints:
        """Block ids of tokens that are committed in one go, from position `start` on."""
        if self.manifest.context_mask == "bidirectional":
            return np.zeros(count, np.int64)
        length = 1 if self.manifest.context_mask == "causal" else self.manifest.block_length
        return (start + np.arange(count)) // length

    def row(self, past: int, length: int, *, commit: bool, first_position: int = 0) -> Row:
        """One row, committed or denoised; masks stand in it only where it is to be denoised."""
        return Row(
            self.tokens(past),
            self.tokens(length) if commit else self.block(length),
            self.committed(length, past) if commit else np.zeros(length, np.int64),
            self.committed(past),
            first_position,
            commit=commit,
        )

    def rows(self, pasts: tuple[int, ...], lengths: tuple[int, ...], *, commit: bool) -> tuple[Row, ...]:
        """A row per pair of past and query length."""
        return tuple(self.row(past, length, commit=commit) for past, length in zip(pasts, lengths, strict=True))


def mode_cases(manifest: Manifest, *, seed: int = 0) -> list[Case]:
    """Every way the graph is used, with and without past, rows of unequal lengths, and all of them in one batch."""
    make = CaseMaker(manifest, np.random.default_rng(seed))
    block = max(min(manifest.block_length, manifest.max_context // 4), 1)
    long, short = block + max(block // 2, 1), max(block // 3, 1)
    none, some = (0, 0, 0, 0), (0, short, long, block)
    far = max(manifest.max_context - (long + block), 0)  # where rotary scaling and long-position scales have left their neutral values
    return [
        Case("prefill", make.rows(none, (long, 1, short, block), commit=True)),
        Case("prefill, last token only", make.rows(none, (long, 1, short, block), commit=True), last_only=True),
        Case("prefill with past", make.rows(some, (block, long, 1, short), commit=True)),
        Case("denoise", make.rows(none, (block, short, block, 1), commit=False)),
        Case("denoise with past", make.rows(some, (block, block, short, block), commit=False)),
        Case("one token", make.rows(none, (1, 1, 1, 1), commit=True)),
        Case("one token with past", make.rows(some, (1, 1, 1, 1), commit=True)),
        Case("verify with past", make.rows(some, (block, block, short, block), commit=True)),
        Case(
            "all modes in one batch",
            make.rows((0, short, block), (long, 1, block), commit=True) + make.rows((long, 0), (block, short), commit=False),
        ),
        Case(
            "end of the context",
            (make.row(long, block, commit=False, first_position=far), make.row(long, block, commit=True, first_position=far)),
        ),
    ]
