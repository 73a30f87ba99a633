"""What goes into the scheduler and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from dlm_runtime.bundle import Mode
from dlm_runtime.cache import CacheStats
from dlm_runtime.errors import DlmError, RequestError
from dlm_runtime.policies.sampling import Sampling

FinishReason = Literal["eos", "length", "cancelled"]
MAX_SEED = 2**63 - 1
MAX_PENALTY = 10.0
MAX_GUIDANCE = 10.0


@dataclass(frozen=True)
class LineRequest:
    """One line to be written after `prompt_ids`.

    `mode` and `threshold` left at None are taken from the manifest. `budget_ms` orders the queue (earliest deadline first), `priority`
    breaks ties, larger first. `sampler` names a decoding loop of the model's family in place of the mode's own; `top_k`, `top_p`,
    `repetition_penalty` and `guidance` are those of `Sampling`. With `drafts` the listener is shown the line after every step that
    changed it.
    Raises RequestError when a value can be right for no model; `Scheduler.submit` checks the rest.
    """

    prompt_ids: tuple[int, ...]
    mode: Mode | None = None
    max_new_tokens: int = 64
    threshold: float | None = None
    temperature: float = 0.0
    seed: int = 0
    priority: int = 0
    budget_ms: int | None = None
    drafts: bool = False
    sampler: str | None = None
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    guidance: float = 0.0

    def __post_init__(self) -> None:
        if not self.prompt_ids:
            raise RequestError("prompt_ids", self.prompt_ids, "give at least one token")
        if self.max_new_tokens < 1:
            raise RequestError("max_new_tokens", self.max_new_tokens, "give at least 1")
        if self.threshold is not None and not 0.0 <= self.threshold <= 1.0:
            raise RequestError("threshold", self.threshold, "give a probability between 0 and 1")
        if not 0.0 <= self.temperature <= 10.0:
            raise RequestError("temperature", self.temperature, "give a number between 0 and 10")
        if not 0 <= self.seed <= MAX_SEED:
            raise RequestError("seed", self.seed, f"give a number between 0 and {MAX_SEED}")
        if self.budget_ms is not None and self.budget_ms < 1:
            raise RequestError("budget_ms", self.budget_ms, "give at least 1, or leave it out")
        if self.top_k < 0:
            raise RequestError("top_k", self.top_k, "give at least 1, or 0 for all tokens")
        if not 0.0 < self.top_p <= 1.0:
            raise RequestError("top_p", self.top_p, "give a number above 0 and up to 1; 1 keeps all tokens")
        if not 0.0 < self.repetition_penalty <= MAX_PENALTY:
            raise RequestError("repetition_penalty", self.repetition_penalty, f"give a number above 0 and up to {MAX_PENALTY}; 1 is none")
        if not 0.0 <= self.guidance <= MAX_GUIDANCE:
            raise RequestError("guidance", self.guidance, f"give a number between 0 and {MAX_GUIDANCE}; 0 is none")

    @property
    def sampling(self) -> Sampling:
        """How its tokens are drawn."""
        return Sampling(self.temperature, self.seed, self.top_k, self.top_p, self.repetition_penalty, self.guidance)


@dataclass(frozen=True)
class LineResult:
    """A line that has come to its end.

    `token_ids` leaves out the end-of-line token, `tokens` counts it. `forwards` counts every forward pass the row took part in, prefill
    and commit passes included. A cancelled line holds what was settled so far.
    """

    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    tokens: int
    forwards: int
    prefill_tokens: int  # prompt tokens that had to be run
    cached_tokens: int  # prompt tokens taken from the prefix cache
    queue_ms: float
    prefill_ms: float
    total_ms: float
    mode: Mode
    seed: int


@dataclass(frozen=True)
class Accepted:
    """First event of every line. `queue_position` lines were ahead of it."""

    queue_position: int


@dataclass(frozen=True)
class Draft:
    """The whole line as it stands; replaces earlier drafts. Tokens that are not `frozen` are guesses and may still change."""

    token_ids: tuple[int, ...]
    frozen: tuple[bool, ...]


@dataclass(frozen=True)
class Finished:
    """Last event of a line that ended or was cancelled."""

    result: LineResult


@dataclass(frozen=True)
class Failed:
    """Last event of a line that could not be finished."""

    error: DlmError


LineEvent = Accepted | Draft | Finished | Failed
Listener = Callable[[LineEvent], None]
"""Called on the scheduler's thread, so it must return fast and never block. Exactly one Finished or Failed ends a line."""


class Ticket(Protocol):
    """A submitted line."""

    @property
    def id(self) -> int: ...

    def cancel(self) -> None:
        """Asks for the line to be dropped at the next step boundary. Harmless on a line that has ended, and from any thread."""
        ...


@dataclass(frozen=True)
class SchedulerStats:
    """A snapshot. Counters run since start."""

    running: int = 0
    waiting: int = 0
    accepted: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    steps: int = 0  # engine calls
    rows_per_step: float = 0.0  # mean
    tokens: int = 0
    forwards: int = 0
    engine_ms: float = 0.0  # time inside the engine
    busy_ms: float = 0.0  # time the thread was not asleep
    cache: CacheStats = field(default_factory=CacheStats)
