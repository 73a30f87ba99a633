"""What a policy asks for: stretches of work that last as many forward passes as they need, and what it is told afterwards.

A policy is a generator that speaks at block boundaries only. It yields a `Prefill`, then `Passes`, `Extend` or `Speculate`, and is sent
an `Outcome` each time. Between two yields it may read and write `line.canvas`. What happens from pass to pass is arithmetic on arrays, the
same for all rows of a batch: `policies.plain` does it for one row, the scheduler for many.

Columns count from the beginning of the line's canvas. A row's context is what earlier passes kept of it: keys and values of some columns,
in any order, for positions are in the keys already.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from dlm_runtime.engines.base import THRESHOLD_OFF

if TYPE_CHECKING:
    from dlm_runtime.policies.line import Line
    from dlm_runtime.policies.sampler import Sampler

Span = tuple[int, int]
"""Columns from the first to before the second."""

NEXT_TOKEN_STEP = 0
"""The counter of every draw of a next token (a block's seed, AR, verify): same position, same seed, same token, whoever asks.

Denoising passes count from 1, so they never share a draw with it.
"""


class Sees(IntEnum):
    """How the columns of a pass see each other; the context they all see."""

    CAUSAL = 0  # themselves and what stands before
    WHOLE = 1  # all of them
    BLOCKS = 2  # their own block and those before it: block = (column - line.block_origin) // directive.block_length
    ECHO = 3  # the columns causally, then as many masks, each of which sees itself and the columns before its own


class Measure(IntEnum):
    """What makes a position sure; the op's `measure`."""

    PROBABILITY = 0
    MARGIN = 1
    NEGATIVE_ENTROPY = 2


class Until(IntEnum):
    """When a stretch of passes is over, apart from its limit."""

    LIMIT = 0  # after exactly `limit` passes
    CLEAN = 1  # no mask is left in the window
    SETTLED = 2  # no mask is left in the window, or none before its first end-of-line token


def strictly_above(threshold: float) -> float:
    """The float32 threshold that `>=` reaches exactly where `> threshold` would."""
    return float(np.nextafter(np.float32(threshold), np.float32(np.inf)))


@dataclass(frozen=True, slots=True)
class Rule:
    """Which masked positions of the window a pass fills in: see `dlm::ParallelUnmask`.

    Pass number i commits at least `quotas[i]` positions, the last entry goes on for ever. With `takes_last`, when a pass leaves exactly one
    masked position of the window, that one is taken too (Fast-dLLM v1 in factor mode). `alg_temperature` > 0 ranks positions by
    confidence / alg_temperature + Gumbel noise (Dream). A `tempered` rule measures confidence on logits / temperature where a temperature
    is set, the others at temperature 1. A `sampler` decides instead of the op, from what the op measured. Logits of pass number i are
    multiplied by `scales[i]` before anything else, the last entry goes on for ever (DiffusionGemma: 1 / scheduled temperature; SDAR: the
    temperature of its confidence), on top of what `tempered` does.
    """

    quotas: tuple[int, ...] = (1,)
    threshold: float = THRESHOLD_OFF
    factor: float = 0.0
    takes_last: bool = False
    measure: Measure = Measure.PROBABILITY
    alg_temperature: float = 0.0
    tempered: bool = False
    sampler: Sampler | None = None
    scales: tuple[float, ...] = (1.0,)

    def quota(self, number: int) -> int:
        """That of pass `number`, from 0."""
        return self.quotas[min(number, len(self.quotas) - 1)]

    def scale(self, number: int) -> float:
        """That of pass `number`, from 0."""
        return self.scales[min(number, len(self.scales) - 1)]


NOTHING = Rule(quotas=(0,))
"""Commits nothing: prompts, commits, verification."""


@dataclass(frozen=True, slots=True)
class Prefill:
    """Run columns [0, stop) and keep them all, in pieces or from a cache. The outcome holds the token drawn after the last.

    Pieces of `Sees.BLOCKS` end at block borders; `Sees.WHOLE` is run in one. A network with an encoder runs it (`StepBatch.encode`).
    """

    stop: int
    sees: Sees = Sees.CAUSAL
    block_length: int = 1


@dataclass(frozen=True, slots=True)
class Passes:
    """Run columns `query` again and again; each pass may fill in masked positions of `window`, which lies in `query`.

    `crop`: before the first pass the context is cut to that many tokens (None: left alone). `keep`: columns whose keys and values, as the
    LAST pass computed them, join the context. `shift` 1: logits at the position before speak for a position; the first of `query` keeps
    its own.
    `first_step` counts passes over several directives, for draws and quotas.
    `guided`: the pass runs a twin of the row, in which the prompt is masked, for classifier-free guidance (`line.sampling.guidance`).
    Only without context.
    `cut_at_end`: after each pass, columns behind the window's first end-of-line token leave query and window: nobody will read them. Their
    masks stay in the canvas. Not with a sampler, and not where columns are kept.
    `causal_head`: of `Sees.WHOLE`, so many columns of `query`, from its first, see only themselves and what stands before (block ids 0, 1,
    ..., the rest one more than the last of them). S2D2 drafts like that.
    `encode`: the pass runs the encoder of a network that has one (`StepBatch.encode`), as every `Prefill` does; without it the decoder.
    `self_conditions`: from its second pass on, a directive feeds the logits of the pass before over `query`, times that pass's scale, to
    the next (`StepBatch.self_conditioning`, `self_conditioned`); the window is all of `query` then. Both are for DiffusionGemma alone,
    whose manifest has no mask token: nothing is masked there, and `Until.LIMIT` with a sampler ends a directive.
    With `next_token` nothing is filled in and each window position's draw is that of a next token (counter `NEXT_TOKEN_STEP`).
    """

    query: Span
    window: Span
    sees: Sees
    rule: Rule = NOTHING
    until: Until = Until.LIMIT
    limit: int = 1
    crop: int | None = None
    keep: tuple[Span, ...] = ()
    shift: int = 0
    first_step: int = 0
    guided: bool = False
    cut_at_end: bool = False
    next_token: bool = False
    causal_head: int = 0
    encode: bool = False
    self_conditions: bool = False
    block_length: int = 1  # of `Sees.BLOCKS`
    wants_confidence: bool = False
    wants_logits: bool = False

    def __post_init__(self) -> None:
        start, stop = self.query
        if not 0 <= start <= self.window[0] < self.window[1] <= stop:
            raise ValueError(f"{self.window=} must be a non-empty part of {self.query=}")
        if self.limit < 1:
            raise ValueError(f"{self.limit=} must be at least 1")
        if self.cut_at_end and (self.keep or self.rule.sampler):
            raise ValueError(f"{self.cut_at_end=} goes with neither {self.keep=} nor {self.rule.sampler=}")


@dataclass(frozen=True, slots=True)
class Extend:
    """Autoregression from `token_id`, which stands at the end of the line and is not in the context yet.

    Runs one token after another, each of which joins the context, until the line ends; the last token is not run.
    """

    token_id: int


@dataclass(frozen=True, slots=True)
class Speculate:
    """Linear self-speculation from `token_id`, which stands at the end of the line and is not in the context yet; until the line ends.

    Draft: `block_length` columns, the token and masks, seen whole, filled in until none is masked (at least the best one per pass, and all
    that reach `draft_threshold`), at temperature 0. Verify: one causal pass; drafted tokens are accepted while the causal draws are the
    same, plus the first that differs. `as_published` drafts and verifies whole blocks even where fewer tokens are wanted or the draft ends
    the line.
    """

    token_id: int
    block_length: int
    draft_threshold: float = 0.0
    as_published: bool = False


Directive = Prefill | Passes | Extend | Speculate


@dataclass(slots=True)
class Outcome:
    """What a directive came to. `passes` forward passes were run.

    `sampled`, `confidence` and `logits` are those of the window in the last pass (after Prefill: its last column alone). Where positions
    were filled in, `sampled` speaks only of those that were masked before the last pass, unless confidence or logits are wanted as well.
    After Extend and Speculate `tokens` are the new ones of the line, in order, the end-of-line token included; the policy hands them to
    `line.extend`.
    """

    passes: int
    sampled: NDArray[np.int64]  # [W]
    confidence: NDArray[np.float32] | None = None  # [W], where wanted
    logits: NDArray[np.float32] | None = None  # [W, V], where wanted
    tokens: list[int] = field(default_factory=list)


Decoding = Generator[Directive, Outcome, None]


class Policy(Protocol):
    """How a line moves. Frozen and shared: everything about one line is in `line` and in the generator."""

    def decode(self, line: Line) -> Decoding:
        """Writes `line`. Ends when the line has a finish reason."""
        ...
