"""What a lower precision changes: at single positions, and in whole lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from dlm_runtime.bundle import Precision
from numpy.typing import NDArray

SHOWN_LINES = 5


@dataclass(frozen=True)
class Agreement:
    """Distributions side by side, position by position, on the same tokens.

    `top1` is the share of positions whose likeliest token is the same, `kl` the mean of KL(reference || other) in nats.
    """

    positions: int
    top1: float
    kl: float


@dataclass(frozen=True)
class ChangedLine:
    """A line that came out otherwise: what was asked, and both answers."""

    prompt: str
    reference: str
    line: str


@dataclass(frozen=True)
class LineChanges:
    """How many of `total` decoded lines are not token for token the reference's, and the first few of them."""

    total: int
    changed: int
    examples: tuple[ChangedLine, ...]


@dataclass(frozen=True)
class QualityReport:
    """A bundle against the fp32 bundle of the same checkpoint, on real prompts.

    `next_token` compares causal passes over the answers, None where the model has no mode that makes them. `denoising` compares masked
    positions of blocks. `lines` is None where the runtime cannot write lines with the model; `note` then says why.
    """

    precision: Precision
    embedding_precision: Precision
    head_precision: Precision
    kept_layers: tuple[str, ...]
    prompts: int
    next_token: Agreement | None
    denoising: Agreement
    lines: LineChanges | None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class AgreementMeter:
    """Adds up positions."""

    def __init__(self) -> None:
        self._positions, self._same, self._kl = 0, 0, 0.0

    def add(self, reference: NDArray[np.float32], other: NDArray[np.float32]) -> None:
        """Logits [N, V] of the same N positions; banned tokens are -inf in both."""
        p, q = log_softmax(reference), log_softmax(other)
        with np.errstate(invalid="ignore"):  # -inf - -inf where a token is banned
            terms = np.where(np.isneginf(p), 0.0, np.exp(p) * (p - q))
        self._positions += len(p)
        self._same += int((p.argmax(-1) == q.argmax(-1)).sum())
        self._kl += float(terms.sum())

    def result(self) -> Agreement:
        """The means so far."""
        count = max(self._positions, 1)
        return Agreement(self._positions, self._same / count, self._kl / count)


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def line_changes(
    prompts: Iterable[str], reference: Iterable[tuple[int, ...]], found: Iterable[tuple[int, ...]], decode: Callable[[tuple[int, ...]], str]
) -> LineChanges:
    """Compare lines token by token; `decode` makes text of token ids."""
    pairs = list(zip(prompts, reference, found, strict=True))
    changed = [(prompt, ours, theirs) for prompt, ours, theirs in pairs if ours != theirs]
    examples = tuple(ChangedLine(prompt, decode(ours), decode(theirs)) for prompt, ours, theirs in changed[:SHOWN_LINES])
    return LineChanges(len(pairs), len(changed), examples)
