"""Are the random numbers on the device those of `dlm_kernels.unmask.draws`, bit for bit?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from dlm_kernels.unmask import draws

from .draws import gumbel_noise, position_keys, uniform

SEEDS = np.array([0, 1, -1, 2**31 - 1, 2**31, -(2**31), 2**40 + 9, -(2**52), 2**63 - 1, -(2**63)])
STEPS = np.array([0, 1, 7, 31, 1000, 3, 2**20, 5, 64, 2**31])
POSITIONS = np.array([0, 1, 4095, 100_000, 2**31 - 2, 2**31 - 1, 2**31, 2**40, 17, 3])
TOKENS, LANES = 151_936, 2048
CHUNKS = (0, 50_000, TOKENS - LANES + 1)  # the last one ends with the token after the vocabulary, which orders positions
NOISE_TOLERANCE = 1e-4


@triton.jit
def draws_kernel(seed, step, position, uniforms, noises, first_token, BLOCK: tl.constexpr):
    """One program per triple of numbers, [N] -> [N, BLOCK]."""
    place = tl.program_id(0)
    first, second = position_keys(tl.load(seed + place), tl.load(step + place), tl.load(position + place))
    lanes = tl.arange(0, BLOCK)
    tl.store(uniforms + place * BLOCK + lanes, uniform(first, second, first_token + lanes))
    tl.store(noises + place * BLOCK + lanes, gumbel_noise(first, second, first_token + lanes))


def wrong_draws(device: str) -> str | None:
    """What differs, or None: the uniform numbers exactly, the noise within what two logarithms may round differently."""
    counters = [torch.from_numpy(values).to(device) for values in (SEEDS, STEPS, POSITIONS)]
    for first_token in CHUNKS:
        uniforms, noises = (torch.empty((len(SEEDS), LANES), dtype=torch.float32, device=device) for _ in range(2))
        kernel: Any = draws_kernel  # its launch options are unknown to type checkers
        kernel[(len(SEEDS),)](*counters, uniforms, noises, first_token, BLOCK=LANES, enable_fp_fusion=False)
        expected = draws.uniform(SEEDS, STEPS, POSITIONS[:, None], LANES, first_token)[:, 0]
        wrong = int((uniforms.cpu().numpy() != expected).sum())
        if wrong:
            return f"{wrong} of {expected.size} uniform numbers from token {first_token} on differ"
        distance = float(np.abs(noises.cpu().numpy() + np.log(-np.log(expected))).max())
        if not distance < NOISE_TOLERANCE:
            return f"Gumbel noise from token {first_token} on differs by {distance}"
    return None
