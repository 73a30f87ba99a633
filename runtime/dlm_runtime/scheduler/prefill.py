"""Running prompts: what the prefix cache has is copied, the rest is run in chunks, prompts of like length together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dlm_runtime.bundle import Manifest
from dlm_runtime.cache import PrefixCache
from dlm_runtime.engines.key_values import KeyValues
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Prefill, Sees
from dlm_runtime.scheduler.row import Row

_LEAST_FILL = 0.6  # a prompt joins a step only if it is at least this share of the longest one in it


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next columns [start, stop) of a row's prompt; `last` when nothing of the prompt is left behind them."""

    row: Row
    line: Line
    prefill: Prefill
    start: int
    stop: int

    @property
    def last(self) -> bool:
        """Whether the prompt is done with it."""
        return self.stop == self.prefill.stop

    def __len__(self) -> int:
        return self.stop - self.start


class PromptRunner:
    """Plans prompt steps of at most about `step_tokens` tokens and keeps what they yield in the rows and in the cache."""

    def __init__(self, manifest: Manifest, cache: PrefixCache, step_tokens: int = 512) -> None:
        self.rows: list[Row] = []
        self._manifest = manifest
        self._cache = cache
        self._step_tokens = step_tokens

    def add(self, row: Row) -> None:
        """Takes in a row that asks for a `Prefill`. Raises ValueError where that does not fit its line."""
        line, prefill = _asked(row)
        if not 0 < prefill.stop <= len(line.canvas):
            raise ValueError(f"{prefill.stop=} must be between 1 and the {len(line.canvas)} columns of the canvas")
        row.prompt = tuple(line.canvas[: prefill.stop].tolist())
        row.context = KeyValues.unfilled(self._manifest, 1, prefill.stop)
        row.context_tokens = row.cached_tokens = 0
        self.rows.append(row)

    def plan(self) -> list[list[Chunk]]:
        """This boundary's prompt steps, rows of lowest rank first; each list is one engine call."""
        if not self.rows:
            return []
        chosen: list[Chunk] = []
        budget, beginnings = self._step_tokens, set[tuple[int, ...]]()
        for row in sorted(self.rows, key=lambda row: row.rank):
            if budget <= 0:
                break
            line, prefill = _asked(row)
            blocks = _shared_blocks(line, prefill)
            self._reuse(row, blocks)
            if self._wait_for_twin(row, blocks, beginnings):
                continue
            if row.context_tokens == row.cached_tokens:
                self._cache.count(len(row.prompt), row.cached_tokens)
            chunk = Chunk(row, line, prefill, row.context_tokens, self._stop(row, line, prefill, budget))
            budget -= len(chunk)
            chosen.append(chunk)
        return _alike(chosen)

    def past(self, chunks: list[Chunk]) -> KeyValues:
        """The chunks' contexts side by side."""
        past = KeyValues.zeros(self._manifest, len(chunks), max(chunk.start for chunk in chunks))
        for place, chunk in enumerate(chunks):
            if chunk.row.context is not None and chunk.start:
                have = slice(chunk.start)
                past.part(slice(place, place + 1), have).put(chunk.row.context.part(tokens=have))
        return past

    def keep(self, chunks: list[Chunk], present: KeyValues) -> None:
        """Stores `present`, a row per chunk, in the rows' contexts, and whole blocks of prompts in the cache."""
        for place, chunk in enumerate(chunks):
            row = chunk.row
            if row.context is None:
                raise RuntimeError(f"row {row.id} has no context to keep its prompt in")
            row.context.part(tokens=slice(chunk.start, chunk.stop)).put(present.part(slice(place, place + 1), slice(len(chunk))))
            row.context_tokens = chunk.stop
            if blocks := _shared_blocks(chunk.line, chunk.prefill):
                whole = chunk.stop - chunk.stop % blocks  # the rest of a block that is cut off is not what its beginning would be
                self._cache.insert(row.prompt[:whole], row.context, blocks)

    def _reuse(self, row: Row, blocks: int) -> None:
        """Copies what the cache has of a prompt that has not begun to run."""
        if row.context_tokens > row.cached_tokens or not blocks or row.context is None:
            return
        # The last token has to be run in any case: its logits are the first thing the policy wants.
        found = self._cache.match(row.prompt, len(row.prompt) - 1, blocks)
        have = len(found) * self._cache.size(blocks)
        if have > row.context_tokens:
            row.context.part(tokens=slice(have)).put_joined(found)
            row.context_tokens = row.cached_tokens = have

    def _wait_for_twin(self, row: Row, blocks: int, beginnings: set[tuple[int, ...]]) -> bool:
        """True when a prompt of this boundary begins with the same next blocks: one step later they come from the cache."""
        if self._cache.capacity_bytes == 0 or not blocks:
            return False
        reach = row.context_tokens + 2 * self._cache.size(blocks)
        if reach >= len(row.prompt):
            return False
        beginning = (blocks, *row.prompt[:reach])
        if beginning in beginnings:
            return row.context_tokens == row.cached_tokens  # one that has begun to run cannot look into the cache again
        beginnings.add(beginning)
        return False

    def _stop(self, row: Row, line: Line, prefill: Prefill, budget: int) -> int:
        """Where the next piece ends. One of fewer tokens than two cache blocks is not worth a step of its own."""
        if prefill.sees == Sees.WHOLE:
            return prefill.stop
        stop = row.context_tokens + max(budget, 2 * self._cache.block_tokens)
        if prefill.sees == Sees.BLOCKS:
            stop += (line.block_origin - stop) % prefill.block_length
        return min(prefill.stop, stop)


def _asked(row: Row) -> tuple[Line, Prefill]:
    if not isinstance(row.asked, Prefill) or row.line is None:
        raise TypeError(f"row {row.id} asks for {type(row.asked).__name__}, only a Prefill runs a prompt")
    return row.line, row.asked


def _shared_blocks(line: Line, prefill: Prefill) -> int:
    """Length of the blocks over which the prompt's context is causal, if other prompts may share it; 0 if not."""
    if prefill.sees == Sees.CAUSAL:
        blocks = 1
    elif prefill.sees == Sees.BLOCKS:
        blocks = prefill.block_length
    else:
        return 0
    return 0 if line.first_position or line.block_origin % blocks else blocks


def _alike(chunks: Iterable[Chunk]) -> list[list[Chunk]]:
    """Chunks sorted into steps so that little of a step is padding."""
    steps: list[list[Chunk]] = []
    for chunk in sorted(chunks, key=lambda chunk: -len(chunk)):
        longest = len(steps[-1][0]) if steps else 0
        if steps and len(chunk) >= _LEAST_FILL * longest:
            steps[-1].append(chunk)
        else:
            steps.append([chunk])
    return steps
