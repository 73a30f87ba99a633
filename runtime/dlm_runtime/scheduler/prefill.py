"""Running prompts: what the prefix cache has is copied, the rest is run in chunks, prompts of like length together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlm_runtime.bundle import Manifest
from dlm_runtime.cache import PrefixCache
from dlm_runtime.policies import Forward, Prefill
from dlm_runtime.scheduler.row import Row

Float32 = NDArray[np.float32]
_LEAST_FILL = 0.6  # a prompt joins a step only if it is at least this share of the longest one in it


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next `forward` of a row's prompt; `last` when nothing of the prompt is left after it."""

    row: Row
    forward: Forward
    last: bool


class PromptRunner:
    """Plans prompt steps of at most about `step_tokens` tokens and keeps what they yield in the rows and in the cache."""

    def __init__(self, manifest: Manifest, cache: PrefixCache, step_tokens: int = 512) -> None:
        self.rows: list[Row] = []
        self._manifest = manifest
        self._cache = cache
        self._step_tokens = step_tokens

    def plan(self) -> list[list[Chunk]]:
        """This boundary's prompt steps, rows of lowest rank first; each list is one engine call."""
        chosen: list[Chunk] = []
        budget, beginnings = self._step_tokens, set[tuple[int, ...]]()
        for row in sorted(self.rows, key=lambda row: row.rank):
            if budget <= 0:
                break
            self._reuse(row)
            if self._wait_for_twin(row, beginnings):
                continue
            if row.context_tokens == row.cached_tokens:
                self._cache.count(len(row.request.prompt_ids), row.cached_tokens)
            chunk = self._chunk(row, budget)
            budget -= len(chunk.forward.token_ids)
            chosen.append(chunk)
        return _alike(chosen)

    def past(self, chunks: list[Chunk]) -> Float32:
        """The chunks' contexts side by side, [layers, 2, B, Hkv, P, dh]."""
        tokens = max(chunk.row.context_tokens for chunk in chunks)
        past = np.zeros((self._manifest.layers, 2, len(chunks), self._manifest.kv_heads, tokens, self._manifest.head_dim), np.float32)
        for place, chunk in enumerate(chunks):
            if chunk.row.context is not None:
                have = chunk.row.context_tokens
                past[:, :, place, :, :have] = chunk.row.context[:, :, :, :have]
        return past

    def keep(self, chunks: list[Chunk], present: Float32) -> None:
        """Stores `present` [layers, 2, B, Hkv, L, dh] in the rows' contexts; finished prompts go into the cache."""
        for place, chunk in enumerate(chunks):
            row, count = chunk.row, len(chunk.forward.token_ids)
            context = self._context(row)
            context[:, :, :, row.context_tokens : row.context_tokens + count] = present[:, :, place, :, :count]
            row.context_tokens += count
            if chunk.forward.causal:
                self._cache.insert(row.request.prompt_ids[: row.context_tokens], context)

    def _reuse(self, row: Row) -> None:
        """Copies what the cache has of a prompt that has not begun to run."""
        if row.context_tokens > row.cached_tokens or not _prefill_of(row).causal:
            return
        # The last token has to be run in any case: its logits are the first thing the policy wants.
        blocks = self._cache.match(row.request.prompt_ids, len(row.request.prompt_ids) - 1)
        size = self._cache.block_tokens
        for number in range(row.context_tokens // size, len(blocks)):
            self._context(row)[:, :, :, number * size : (number + 1) * size] = blocks[number]
        row.context_tokens = row.cached_tokens = max(row.context_tokens, len(blocks) * size)

    def _wait_for_twin(self, row: Row, beginnings: set[tuple[int, ...]]) -> bool:
        """True when a prompt of this boundary begins with the same next blocks: one step later they come from the cache."""
        reach = row.context_tokens + 2 * self._cache.block_tokens
        prompt = row.request.prompt_ids
        if self._cache.capacity_bytes == 0 or reach >= len(prompt) or not _prefill_of(row).causal:
            return False
        beginning = prompt[:reach]
        if beginning in beginnings:
            return row.context_tokens == row.cached_tokens  # one that has begun to run cannot look into the cache again
        beginnings.add(beginning)
        return False

    def _chunk(self, row: Row, budget: int) -> Chunk:
        prefill = _prefill_of(row)
        start, length = row.context_tokens, len(prefill.token_ids)
        # A piece of fewer tokens than two cache blocks is not worth a step of its own; a bidirectional prompt is run whole.
        stop = min(length, start + max(budget, 2 * self._cache.block_tokens)) if prefill.causal else length
        size = stop - start
        forward = Forward(prefill.token_ids[start:stop], prefill.causal, size - 1, 1, temperature=prefill.temperature, keeps=True)
        return Chunk(row, forward, stop == length)

    def _context(self, row: Row) -> Float32:
        if row.context is None:
            manifest = self._manifest
            tokens = len(row.request.prompt_ids)
            row.context = np.empty((manifest.layers, 2, manifest.kv_heads, tokens, manifest.head_dim), np.float32)
        return row.context


def _prefill_of(row: Row) -> Prefill:
    if not isinstance(row.asked, Prefill):
        raise TypeError(f"row {row.id} asks for {type(row.asked).__name__}, a policy must begin with a Prefill")
    return row.asked


def _alike(chunks: Iterable[Chunk]) -> list[list[Chunk]]:
    """Chunks sorted into steps so that little of a step is padding."""
    steps: list[list[Chunk]] = []
    for chunk in sorted(chunks, key=lambda chunk: -len(chunk.forward.token_ids)):
        longest = len(steps[-1][0].forward.token_ids) if steps else 0
        if steps and len(chunk.forward.token_ids) >= _LEAST_FILL * longest:
            steps[-1].append(chunk)
        else:
            steps.append([chunk])
    return steps
