"""The profiles that a plan was built for, and which of them a batch runs with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dlm_runtime.bundle.manifest import PlanProfile
from dlm_runtime.engines.base import StepBatch
from dlm_runtime.errors import EngineError

_OPTIONS = {"B": "--max-batch", "G": "--max-batch", "P": "--max-context", "L": "--max-prefill", "W": "--max-prefill"}


class Sizes(NamedTuple):
    """The sizes of a batch by the letters of the graph's dimensions."""

    B: int
    L: int
    P: int
    W: int
    G: int
    R: int
    S: int

    @staticmethod
    def of(batch: StepBatch) -> Sizes:
        """R is 0 and S 1 where a batch leaves recent tokens and self-conditioning out."""
        recent = 0 if batch.recent_ids is None else batch.recent_ids.shape[1]
        conditions = 1 if batch.self_conditioning is None else batch.self_conditioning.shape[1]
        rows, length = batch.input_ids.shape
        return Sizes(rows, length, batch.past.tokens, batch.window_length, batch.allow_table.shape[0], recent, conditions)


class Profiles:
    """A plan's profiles in its own order."""

    def __init__(self, profiles: Sequence[PlanProfile], remedy: str) -> None:
        self._profiles = tuple(profiles)
        self._remedy = remedy

    def most_rows(self, sizes: Sizes) -> int:
        """The most rows that a profile takes of steps with these other sizes. Raises EngineError if none takes any."""
        one_row = sizes._replace(B=1)._asdict()
        rows = [profile.dimensions["B"][2] for profile in self._profiles if not _misfits(profile, one_row)]
        if not rows:
            raise self._refusal(sizes._asdict())
        return max(rows)

    def choose(self, sizes: Sizes) -> int:
        """Number of the profile that takes `sizes` and whose usual sizes are nearest, counted in doublings.

        Raises EngineError, which names the dimensions and the options of the build, if none does.
        """
        named = sizes._asdict()
        fitting = [(_distance(profile, named), number) for number, profile in enumerate(self._profiles) if not _misfits(profile, named)]
        if not fitting:
            raise self._refusal(named)
        return min(fitting)[1]

    def _refusal(self, sizes: Mapping[str, int]) -> EngineError:
        reasons = [f"{profile.name} takes {', '.join(_misfits(profile, sizes).values())}" for profile in self._profiles]
        nearest = min((_misfits(profile, sizes) for profile in self._profiles), key=len)
        options = sorted({_OPTIONS[name] for name in nearest if name in _OPTIONS})
        sizes_text = ", ".join(f"{name}={size}" for name, size in sizes.items())
        remedy = f"{self._remedy} {' '.join(f'{option} N' for option in options)}".rstrip()
        return EngineError(f"a step of {sizes_text} fits no profile of the plan: {'; '.join(reasons)}", f"Build for larger steps: {remedy}")


def _misfits(profile: PlanProfile, sizes: Mapping[str, int]) -> dict[str, str]:
    """The dimensions that a profile does not take, with what it does."""
    return {
        name: f"{name} from {smallest} to {largest}"
        for name, (smallest, _, largest) in profile.dimensions.items()
        if not smallest <= sizes[name] <= largest
    }


def _distance(profile: PlanProfile, sizes: Mapping[str, int]) -> float:
    return sum(abs(math.log2((sizes[name] + 1) / (usual + 1))) for name, (_, usual, _) in profile.dimensions.items())
