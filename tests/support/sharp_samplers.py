"""Samplers whose thresholds tell something with random weights, and a model's own loop with one of them."""

from __future__ import annotations

from dlm_runtime.bundle import Manifest
from dlm_runtime.policies import Policy
from dlm_runtime.policies.choose import loop_for
from dlm_runtime.policies.credit import Credit
from dlm_runtime.policies.dilated import Dilated
from dlm_runtime.policies.hierarchy import Hierarchy
from dlm_runtime.policies.klass import Klass
from dlm_runtime.policies.remasking import Remasking
from dlm_runtime.policies.sampler import Sampler
from dlm_runtime.policies.with_sampler import WithSampler

SHARP: list[tuple[Sampler, bool]] = [  # with random weights nothing is sure of anything, so the thresholds are low; and whether it runs on
    (Hierarchy(0.04, 0.015), False),
    (Credit(0.05), False),
    (Klass(0.02, 0.05, 2), False),
    (Dilated(), False),
    (Dilated(3, 0.02), False),
    (Remasking(256, 0.1), True),
    (Remasking(256, 0.05, 12), True),
]


def over(manifest: Manifest, sampler: Sampler, runs_on: bool) -> Policy:
    """The model's own loop, with `sampler` in place of the op's decision."""
    own = loop_for(manifest, None).make(manifest, manifest.default_threshold)
    return WithSampler(own, lambda line: sampler, runs_on, isinstance(sampler, Credit), getattr(sampler, "steps", 0))
