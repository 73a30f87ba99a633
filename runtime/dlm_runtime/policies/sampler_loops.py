"""Samplers by name, on top of whatever loop a model has: hierarchy, credit, klass, dus, remdm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dlm_runtime.bundle import Manifest
from dlm_runtime.policies.credit import Credit
from dlm_runtime.policies.dilated import Dilated
from dlm_runtime.policies.hierarchy import Hierarchy
from dlm_runtime.policies.klass import Klass
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.loop import Loop
from dlm_runtime.policies.passes import Policy
from dlm_runtime.policies.remasking import Remasking
from dlm_runtime.policies.sampler import Sampler
from dlm_runtime.policies.with_sampler import WithSampler


@dataclass(frozen=True, slots=True)
class Named:
    """A sampler's name and how it is made for a line: of the model, the request's threshold and the line.

    `guides` says whether it can do with classifier-free guidance, which the raw logits know nothing of. For the others see `WithSampler`.
    """

    name: str
    make: Callable[[Manifest, float, Line], Sampler]
    guides: bool = True
    runs_on: bool = False
    measures_plainly: bool = False

    def over(self, loop: Loop, manifest: Manifest, threshold: float) -> Policy:
        """The loop with this sampler."""

        def sampler_for(line: Line) -> Sampler:
            return self.make(manifest, threshold, line)

        return WithSampler(loop.make(manifest, threshold), sampler_for, runs_on=self.runs_on, measures_plainly=self.measures_plainly)


def hierarchy(manifest: Manifest, threshold: float, line: Line) -> Sampler:
    """The request's threshold, or the model's."""
    return Hierarchy(threshold)


def credit(manifest: Manifest, threshold: float, line: Line) -> Sampler:
    """The request's threshold, or the model's."""
    return Credit(threshold, temperature=line.sampling.temperature)


def klass(manifest: Manifest, threshold: float, line: Line) -> Sampler:
    """As published; the request's threshold is for other loops."""
    return Klass()


def dus(manifest: Manifest, threshold: float, line: Line) -> Sampler:
    """As published; it has no threshold."""
    return Dilated()


def remdm(manifest: Manifest, threshold: float, line: Line) -> Sampler:
    """As many passes as a block has positions; it has no threshold."""
    return Remasking(manifest.vocab_size)


NAMED = (
    Named("hierarchy", hierarchy),
    Named("credit", credit, guides=False, measures_plainly=True),
    Named("klass", klass, guides=False),
    Named("dus", dus),
    Named("remdm", remdm, runs_on=True),
)


def over_own_loops(loops: Sequence[Loop]) -> tuple[Loop, ...]:
    """A loop per sampler and per kind of own loop, with guidance and without, for every model that has masks and one of `loops`."""

    def own(manifest: Manifest) -> Loop | None:
        if manifest.mask_token_id is None:
            return None
        return next((loop for loop in loops if loop.fits(manifest)), None)

    def named_loop(named: Named, guides: bool) -> Loop:
        def fits(manifest: Manifest) -> bool:
            loop = own(manifest)
            return loop is not None and (loop.guides and named.guides) == guides

        def make(manifest: Manifest, threshold: float) -> Policy:
            loop = own(manifest)
            assert loop is not None  # it fits
            return named.over(loop, manifest, threshold)

        return Loop(named.name, fits, make, guides)

    return tuple(named_loop(named, guides) for named in NAMED for guides in (True, False) if named.guides or not guides)
