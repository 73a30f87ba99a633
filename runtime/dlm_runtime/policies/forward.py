"""What a policy asks for and what it is told: the conversation between a line and whoever runs the model.

A policy is a generator. It yields one Prefill, then Forwards, and each time is sent the Reply. It knows nothing of other lines, of batches
or of the cache, so the scheduler and the plain loop in `scheduler.reference` drive the very same object.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dlm_runtime.engines.base import THRESHOLD_OFF

if TYPE_CHECKING:
    from dlm_runtime.policies.line import Line

NEXT_TOKEN_STEP = 0
"""The counter of every draw of a next token (a block's seed, AR, verify): same position, same seed, same token, whoever asks.

Denoising steps count from 1, so they never share a draw with it.
"""


@dataclass(frozen=True, slots=True)
class Prefill:
    """Run the prompt and keep all of it. The reply holds the token drawn after its last position."""

    token_ids: Sequence[int]
    temperature: float = 0.0
    causal: bool = True


@dataclass(frozen=True, slots=True)
class Forward:
    """Run `token_ids` after what has been kept. The reply speaks of the window: `window_length` positions from `window_start` on.

    `causal` says whether each of them sees itself and what stands before it, or all see all.
    """

    token_ids: Sequence[int]
    causal: bool
    window_start: int
    window_length: int
    quota: int = 0
    threshold: float = THRESHOLD_OFF
    temperature: float = 0.0
    step: int = NEXT_TOKEN_STEP
    keeps: bool = False  # whether the reply's `keep` will be called


@dataclass(slots=True)
class Reply:
    """Window tokens after unmasking, and the token drawn at every window position."""

    canvas: list[int]
    sampled: list[int]
    kept: int = 0

    def keep(self, count: int) -> None:
        """Adds the first `count` tokens that were run to the row's context. Only before the next yield, only for a Forward that keeps."""
        self.kept = count


Decoding = Generator[Prefill | Forward, Reply, None]


class Policy(Protocol):
    """How a line moves. Frozen and shared: everything about one line is in `line` and in the generator."""

    def decode(self, line: Line) -> Decoding:
        """Writes `line`. Ends when the line has a finish reason."""
        ...
