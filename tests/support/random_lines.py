"""Lines to be written: random prompts, limits, seeds and ends."""

from __future__ import annotations

import random

from dlm_runtime.bundle import Manifest
from dlm_runtime.policies import Line, Sampling


def lines_of(
    manifest: Manifest, count: int, seed: int, temperatures: tuple[float, ...] = (0.0,), ends: int = 1, most: int = 40
) -> list[Line]:
    """Random prompts, and limits below `most`; `ends` random words end a line."""
    rng = random.Random(seed)
    words = [i for i in range(3, manifest.vocab_size) if i != manifest.mask_token_id]
    return [
        Line(
            tuple(rng.choices(words, k=rng.randrange(1, 24))),
            rng.randrange(1, most),
            tuple(rng.sample(words, ends)),
            Sampling(rng.choice(temperatures), rng.randrange(2**40)),
        )
        for _ in range(count)
    ]
