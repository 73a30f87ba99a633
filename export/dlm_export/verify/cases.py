"""What is compared: rows of random tokens for every mode of the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from dlm_runtime.bundle import Manifest
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """One row of a step: tokens already committed, tokens forwarded now, and whether those see each other causally."""

    past_ids: Ints  # [p], p may be 0
    query_ids: Ints  # [n], n >= 1
    causal: bool
    first_position: int = 0

    def __post_init__(self) -> None:
        if len(self.query_ids) < 1:
            raise ValueError("query_ids must hold at least one token")

    @property
    def positions(self) -> Ints:
        """Position ids of past and query together, [p + n]."""
        return self.first_position + np.arange(len(self.past_ids) + len(self.query_ids))


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
    """Draws rows for a model. Half of a denoised block is masks, as in decoding."""

    manifest: Manifest
    rng: np.random.Generator

    def tokens(self, count: int) -> Ints:
        """Any token ids."""
        return self.rng.integers(0, self.manifest.vocab_size, count)

    def block(self, count: int) -> Ints:
        """Token ids with about half of them masked."""
        return np.where(self.rng.random(count) < 0.5, self.manifest.mask_token_id, self.tokens(count))

    def row(self, past: int, length: int, *, causal: bool, first_position: int = 0) -> Row:
        """One row; masks stand in it only where it is to be denoised."""
        return Row(self.tokens(past), self.tokens(length) if causal else self.block(length), causal, first_position)

    def rows(self, pasts: tuple[int, ...], lengths: tuple[int, ...], *, causal: bool) -> tuple[Row, ...]:
        """A row per pair of past and query length."""
        return tuple(self.row(past, length, causal=causal) for past, length in zip(pasts, lengths, strict=True))


def mode_cases(manifest: Manifest, *, seed: int = 0) -> list[Case]:
    """Every mode, with and without past, rows of unequal lengths, and all of them in one batch."""
    make = CaseMaker(manifest, np.random.default_rng(seed))
    block = min(manifest.block_length, manifest.max_context // 4)
    long, short = block + max(block // 2, 1), max(block // 3, 1)
    none, some = (0, 0, 0, 0), (0, short, long, block)
    far = manifest.max_context - (long + block)  # where rotary scaling and long-position scales have left their neutral values
    return [
        Case("prefill", make.rows(none, (long, 1, short, block), causal=True)),
        Case("prefill, last token only", make.rows(none, (long, 1, short, block), causal=True), last_only=True),
        Case("prefill with past", make.rows(some, (block, long, 1, short), causal=True)),
        Case("denoise", make.rows(none, (block, short, block, 1), causal=False)),
        Case("denoise with past", make.rows(some, (block, block, short, block), causal=False)),
        Case("one token", make.rows(none, (1, 1, 1, 1), causal=True)),
        Case("one token with past", make.rows(some, (1, 1, 1, 1), causal=True)),
        Case("causal verify with past", make.rows(some, (block, block, short, block), causal=True)),
        Case(
            "all modes in one batch",
            make.rows((0, short, block), (long, 1, block), causal=True) + make.rows((long, 0), (block, short), causal=False),
        ),
        Case(
            "end of the context",
            (make.row(long, block, causal=False, first_position=far), make.row(long, block, causal=True, first_position=far)),
        ),
    ]
