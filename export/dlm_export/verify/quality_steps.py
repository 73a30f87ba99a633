"""The same tokens through a step graph: what it says behind a prompt, causally and over blocks with masks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from dlm_runtime.bundle import Manifest
from dlm_runtime.engines.neutral import neutral_inputs
from dlm_runtime.errors import EngineError
from numpy.typing import NDArray

from .session import Arrays, Past, StepSession, presents

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
NOISE_SHARES = (1.0, 0.5)  # of a block's open positions: how it begins, and half-way


@dataclass(frozen=True)
class Block:
    """Part of an answer to be denoised: `start` counts from the answer's first token, `open` are the positions compared."""

    start: int
    token_ids: Ints  # [n]
    open: Ints  # positions within the block


def blocks_of(answer: Ints, manifest: Manifest, rng: np.random.Generator) -> Iterator[Block]:
    """An answer cut into blocks, each at every noise level.

    As in decoding, the first token of a block is known where the context is causal, and masks go on behind the answer's end.
    """
    length, known = manifest.block_length, int(manifest.context_mask == "causal")
    for start in range(0, len(answer), length):
        clean = answer[start : start + length]
        places = np.arange(known, len(clean))
        for share in NOISE_SHARES:
            hidden = np.sort(rng.permutation(places)[: max(round(share * len(places)), 1)])
            token_ids = noise(length, manifest, rng)
            token_ids[: len(clean)] = np.where(np.isin(np.arange(len(clean)), hidden), token_ids[: len(clean)], clean)
            if hidden.size:
                yield Block(start, token_ids, hidden)


def noise(count: int, manifest: Manifest, rng: np.random.Generator) -> Ints:
    """What stands where nothing is known: masks, or random tokens in families that have none."""
    drawn = rng.integers(0, manifest.vocab_size, count)
    return drawn if manifest.mask_token_id is None else np.full(count, manifest.mask_token_id, np.int64)


@dataclass(frozen=True)
class Reader:
    """Runs one row at a time through a session. Logits come with banned tokens at -inf."""

    session: StepSession

    @property
    def manifest(self) -> Manifest:
        """The bundle's."""
        return self.session.manifest

    def commit(self, token_ids: Ints, past: Past, *, window: int) -> tuple[Floats, Past]:
        """Append tokens to the context: the logits of the last `window` of them, and the context then."""
        known = past[0][0].shape[1]
        count, mask = len(token_ids), self.manifest.context_mask
        length = {"causal": 1, "block_causal": self.manifest.block_length, "bidirectional": self.manifest.max_context}[mask]
        logits, present = self._step(token_ids, (known + np.arange(count)) // length, past, window)
        return logits, [join(old, new) for old, new in zip(past, present, strict=True)]

    def denoise(self, block: Block, past: Past) -> Floats:
        """Logits of a block's open positions, [n, V]: those that speak of them."""
        logits, _ = self._step(block.token_ids, np.zeros_like(block.token_ids), past, len(block.token_ids))
        return logits[np.maximum(block.open - self.manifest.logit_shift, 0)]

    def empty(self) -> Past:
        """A context of no tokens."""
        m = self.manifest
        shapes = [(heads, 0, width) for heads, width in map(m.cache_shape, range(m.layers))]
        return [(np.zeros(shape, m.cache_type), np.zeros(shape, m.cache_type)) for shape in shapes]

    def _step(self, token_ids: Ints, block_ids: Ints, past: Past, window: int) -> tuple[Floats, Past]:
        feed = one_row(self.manifest, token_ids, block_ids, past, window)
        try:
            answer = self.session.run(feed)
        except EngineError as error:
            raise EngineError(f"{error.problem}, given token ids alone", "Compare it with its checkpoint instead") from error
        logits = answer.outputs["logits"][0].copy()
        if not np.isfinite(logits).all():
            problem = f"{self.session.model_path} gives logits that are not finite"
            raise EngineError(problem, "Halves end at 65504: export it with --precision bf16, which ends where float32 does")
        logits[:, list(banned(self.manifest))] = -np.inf
        return logits, presents(answer, self.manifest.layers, 0)


def join(old: tuple[Floats, Floats], new: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Keys and values of a layer, one after the other."""
    return np.concatenate((old[0], new[0]), axis=1), np.concatenate((old[1], new[1]), axis=1)


def banned(manifest: Manifest) -> set[int]:
    """Tokens that no line may contain."""
    return set(manifest.banned_token_ids) | ({manifest.mask_token_id} if manifest.mask_token_id is not None else set())


def one_row(manifest: Manifest, token_ids: Ints, block_ids: Ints, past: Past, window: int) -> Arrays:
    """The inputs of a step over one row, its last `window` positions asked for."""
    known, count = past[0][0].shape[1], len(token_ids)
    feed: Arrays = neutral_inputs(1) | {
        "input_ids": token_ids[None],
        "position_ids": known + np.arange(count)[None],
        "past_lengths": np.array([known]),
        "query_lengths": np.array([count]),
        "block_ids": block_ids[None],
        "window_start": np.array([count - window]),
        "allow_rows": np.zeros((1, window), np.int64),
        "allow_table": np.zeros((1, manifest.vocab_size), np.float32),
        "quota": np.zeros(1, np.int64),
        "threshold": np.ones(1, np.float32),
        "temperature": np.zeros(1, np.float32),
        "seed": np.zeros(1, np.int64),
        "step": np.zeros(1, np.int64),
    }
    for layer, pair in enumerate(past):
        for part, array in zip(("key", "value"), pair, strict=True):
            feed[f"past.{layer}.{part}"] = array[None]
    return feed
