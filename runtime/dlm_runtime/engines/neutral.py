"""What the step graph is fed where a batch leaves an input out: values that change nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def neutral_inputs(rows: int) -> dict[str, NDArray[Any]]:
    """The inputs of every graph that a batch of `rows` rows may leave out."""
    zeros, ones, none = np.zeros(rows, np.float32), np.ones(rows, np.float32), np.zeros(rows, np.int64)
    return {
        "shift": none,
        "scale": ones,
        "sample_top_k": none,
        "sample_top_p": ones,
        "repetition_penalty": ones,
        "recent_ids": np.zeros((rows, 0), np.int64),
        "guidance": zeros,
        "guidance_rows": np.arange(rows, dtype=np.int64),
        "factor": zeros,
        "measure": none,
        "rank_temperature": zeros,
    }


def neutral_roles(rows: int, vocab_size: int) -> dict[str, NDArray[Any]]:
    """The inputs that only graphs with an encoder and a decoder have: rows are denoised as on a first step."""
    return {
        "encode": np.zeros(rows, np.bool_),
        "self_conditioning": np.zeros((rows, 1, vocab_size), np.float32),
        "self_conditioned": np.zeros(rows, np.bool_),
    }
