"""A step's `past_version`: the same number never stands for two pasts, and it stays while blocks are denoised."""

from __future__ import annotations

from typing import Any

from dlm_runtime.bundle import Manifest
from dlm_runtime.engines import StepBatch, StepResult


class Watching:
    """An engine that remembers which past came by which version."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.pasts: dict[int, list[bytes]] = {}
        self.steps = self.known = 0

    @property
    def manifest(self) -> Manifest:
        return self._engine.manifest

    def step(self, batch: StepBatch) -> StepResult:
        self.steps += 1
        if batch.past_version is not None:
            bytes_now = [array.tobytes() for array in batch.past.arrays]
            before = self.pasts.setdefault(batch.past_version, bytes_now)
            self.known += before is not bytes_now
            assert before == bytes_now, "the past has changed and its version has not"
        return self._engine.step(batch)

    def close(self) -> None:
        """The engine is somebody else's."""


def test_a_version_stands_for_one_past(golden_engine, run_scheduler, random_requests) -> None:
    engine = Watching(golden_engine)
    requests = random_requests(engine.manifest, 40, seed=3, temperatures=(0.0, 0.8))
    run_scheduler(engine, max_rows=12).write(*requests)
    assert engine.pasts, "arenas say which version theirs is"


def test_of_the_passes_over_a_block_only_the_first_has_a_new_version(golden_engine, run_scheduler, random_requests) -> None:
    engine = Watching(golden_engine)
    request = next(one for one in random_requests(engine.manifest, 40, seed=4) if one.mode == "diffusion" and one.max_new_tokens > 16)
    run_scheduler(engine).write(request)
    assert engine.known >= engine.steps // 2
