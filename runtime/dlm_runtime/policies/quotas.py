"""How many tokens every pass commits at least, as the published loops spread a block's masks over its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

ONE = np.float32(1.0)
Schedule = Literal["linear", "cosine"]


def _masked_linear(time: float) -> np.float32:
    """The share that is masked at `time`, rounded where dllm rounds it."""
    return ONE - (ONE - np.float32(time))


def _masked_cosine(time: float) -> np.float32:
    """As above, in the cosine schedule."""
    return ONE - (ONE - np.cos(np.float32(np.pi / 2) * (ONE - np.float32(time))))


SCHEDULES: dict[Schedule, Callable[[float], np.float32]] = {"linear": _masked_linear, "cosine": _masked_cosine}


def even_quotas(masks: int, steps: int) -> tuple[int, ...]:
    """`masks` over `steps` passes as evenly as they go, larger ones first: LLaDA, Fast-dLLM, SDAR, Nemotron. Trailing ones may be 0."""
    share, rest = divmod(masks, steps)
    return tuple(share + (step < rest) for step in range(steps))


def rounded_quotas(masks: int, steps: int, schedule: Schedule = "linear") -> tuple[int, ...]:
    """dllm's: of what is left at time t the share that is to be there by time s, in its mixed precision, halves to even.

    Passes without a token are left out.
    """
    masked = SCHEDULES[schedule]
    quotas: list[int] = []
    for step in range(steps):
        stay = float(masked((steps - step - 1) / steps) / masked((steps - step) / steps))
        quota = min(round(masks * (1.0 - stay)), masks)
        masks -= quota
        if quota:
            quotas.append(quota)
        if not masks:
            break
    return tuple(quotas)


def truncated_quotas(masks: int, steps: int, eps: float, first: int = 0) -> tuple[int, ...]:
    """Dream's: what is left times 1 - s / t on `steps` intervals from 1 to `eps`, cut to whole tokens, from interval `first` on.

    The last pass takes all that is left.
    """
    times = _timesteps(steps, eps)
    quotas: list[int] = []
    for step in range(first, steps):
        share = ONE - times[step + 1] / times[step]
        quota = int(np.float32(masks) * share) if step < steps - 1 else masks
        quotas.append(quota)
        masks -= quota
    return tuple(quotas)


def _timesteps(steps: int, eps: float) -> list[np.float32]:
    """float32 from 1 to `eps`, counted from the nearer end and rounded once, as torch.linspace does."""
    start, end = 1.0, float(np.float32(eps))
    width = float((np.float32(end) - ONE) / np.float32(steps))
    half = (steps + 1) // 2
    return [np.float32(start + width * i if i < half else end - width * (steps - i)) for i in range(steps + 1)]
