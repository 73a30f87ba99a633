"""From the name of a published sampler to what runs it here."""

from __future__ import annotations

from collections.abc import Callable

from dlm_runtime.bundle import Manifest

from . import bd3lm_runs, block_runs, diffusion_gemma_runs, dllm_runs, dream_runs, llada_runs, nemotron_runs, sdar_runs
from .parameters import UnknownSampler
from .prepared import PreparedRun, RecordedRun

Prepare = Callable[[RecordedRun, Manifest], PreparedRun]

SAMPLERS: dict[str, Prepare] = {
    **llada_runs.RUNS,
    **dream_runs.RUNS,
    **dllm_runs.RUNS,
    **bd3lm_runs.RUNS,
    **nemotron_runs.RUNS,
    **sdar_runs.RUNS,
    **block_runs.RUNS,
    **diffusion_gemma_runs.RUNS,
}


def prepare(run: RecordedRun, manifest: Manifest) -> PreparedRun:
    """The run's rows. Raises UnknownSampler, and UnsupportedRun for parameters that nothing here can follow."""
    if run.sampler not in SAMPLERS:
        raise UnknownSampler(run.sampler, sorted(SAMPLERS))
    return SAMPLERS[run.sampler](run, manifest)
