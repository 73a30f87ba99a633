"""A decoding loop by its name: which models it is for, and the policy that a request's numbers make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dlm_runtime.bundle import Manifest
from dlm_runtime.policies.passes import Policy


@dataclass(frozen=True, slots=True)
class Loop:
    """`name` is that of the published sampler in recorded runs. `make` is given the request's threshold or, without one, the manifest's.

    `guides` says whether it has classifier-free guidance.
    """

    name: str
    fits: Callable[[Manifest], bool]
    make: Callable[[Manifest, float], Policy]
    guides: bool = False


def of_families(*names: str) -> Callable[[Manifest], bool]:
    """Whether a model is of one of these families."""
    return lambda manifest: manifest.family in names
