"""Block diffusion as LLaDA2.0 and LLaDA2.1 publish it (`LLaDA2MoeModelLM.generate`), over a cache.

The published loops run the whole canvas in every pass. A finished block never changes and sees nothing behind it, so its keys and values
may be kept: the first pass of a block runs what is not in the context yet and the block, the others the block alone. That is the same
number of passes and the same arithmetic.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from dlm_runtime.policies.edits import Edits
from dlm_runtime.policies.fused import Block
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Decoding, Directive, Outcome, Prefill, Rule, Sees, Span, Until, strictly_above
from dlm_runtime.policies.quotas import even_quotas
from dlm_runtime.policies.sdar import aligned_canvas


@dataclass(frozen=True, slots=True)
class LLaDA2:
    """LLaDA2.0: takes all positions surer than `threshold`, or an even share of `steps` passes where that is more.

    A line ends with the block in which its end of line stands; with `eos_early_stop` already in the pass that writes it, if no mask stands
    before it. The published loop makes at most `limit // minimal_topk` passes a block, so that short lines are written in haste. A line
    that is served (not `as_published`) is not; it ends as soon as no mask stands before its end of line, and its prompt is run ahead, in
    pieces and from the cache.
    """

    block_length: int
    mask_token_id: int
    threshold: float = 0.95
    steps: int = 32
    minimal_topk: int = 1
    eos_early_stop: bool = False
    as_published: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"{self.steps=} must be at least 1")
        if self.minimal_topk < 1:
            raise ValueError(f"{self.minimal_topk=} must be at least 1")

    def decode(self, line: Line) -> Decoding:
        steps = min(self.steps, line.limit // self.minimal_topk) if self.as_published else self.steps
        if steps < 1:
            raise ValueError(f"{line.limit=} must be at least {self.minimal_topk=}: no pass is left for a block")
        rule = Rule(even_quotas(self.block_length, steps), strictly_above(self.threshold), tempered=True)
        first, stop, pending = yield from lay_out(line, self)
        for start in range(first, stop, self.block_length):
            span = (start, start + self.block_length)
            block = Block(span, line.prompt_length, pending, self.mask_token_id, self.block_length)
            if self.as_published and self.eos_early_stop:
                end = yield from self._until_end_is_written(line, block, rule, steps)
                if end is not None:
                    line.extend(line.canvas[max(start, line.prompt_length) : end + 1].tolist())
                    return
            else:
                yield from block.denoise(line, rule, Until.CLEAN if self.as_published else Until.SETTLED, steps)
            if line.extend(line.canvas[max(start, line.prompt_length) : span[1]].tolist()):
                return
            pending = span

    def _until_end_is_written(self, line: Line, block: Block, rule: Rule, steps: int) -> Generator[Directive, Outcome, int | None]:
        """Pass by pass: where the end of line stands, if a pass has written one and no mask was before the first one then."""
        start, stop = block.span
        for number in range(steps):
            before = line.canvas[start:stop].copy()
            if self.mask_token_id not in before:
                return None
            yield from block.one_pass(rule, number)
            after = line.canvas[start:stop]
            ends = list(line.eos_token_ids)
            if not np.isin(after[after != before], ends).any():
                continue
            new = line.canvas[line.prompt_length : stop]
            end = int(np.flatnonzero(np.isin(new, ends))[0])
            if self.mask_token_id not in new[:end]:
                return line.prompt_length + end
        return None


@dataclass(frozen=True, slots=True)
class LLaDA21:
    """LLaDA2.1: takes all positions surer than `threshold`, `num_to_transfer` in any case, and corrects what it has written (see `Edits`).

    The published loop writes all blocks whatever ends of line stand in them, unless `eos_early_stop` ends it with a block.
    A line that is served ends with the block in which its end of line stands.
    """

    block_length: int
    mask_token_id: int
    threshold: float = 0.95
    editing_threshold: float = 0.9
    max_post_steps: int = 16
    num_to_transfer: int = 1
    eos_early_stop: bool = False
    as_published: bool = False

    def __post_init__(self) -> None:
        if self.num_to_transfer < 1:
            raise ValueError(f"{self.num_to_transfer=} must be at least 1: a block might never end")
        if self.max_post_steps < 0:
            raise ValueError(f"{self.max_post_steps=} must be at least 0")

    def decode(self, line: Line) -> Decoding:
        sampler = Edits(self.threshold, self.editing_threshold, self.max_post_steps)
        rule, limit = Rule((self.num_to_transfer,), tempered=True, sampler=sampler), self.block_length + self.max_post_steps
        first, stop, pending = yield from lay_out(line, self)
        stops_early, settled = self.eos_early_stop or not self.as_published, line.prompt_length
        for start in range(first, stop, self.block_length):
            span = (start, start + self.block_length)
            block = Block(span, line.prompt_length, pending, self.mask_token_id, self.block_length)
            yield from block.denoise(line, rule, Until.LIMIT, limit, goes_on_when_clean=self.max_post_steps > 0)
            pending = span
            if stops_early or span[1] == stop:
                if line.extend(line.canvas[settled : span[1]].tolist()):
                    return
                settled = span[1]


def lay_out(line: Line, policy: LLaDA2 | LLaDA21) -> Generator[Directive, Outcome, tuple[int, int, Span | None]]:
    """The canvas, and where its first block begins, where it ends, and which columns wait to be run with that block."""
    first, stop = aligned_canvas(line, policy.block_length, policy.mask_token_id)
    if not first:
        return first, stop, None
    if policy.as_published:
        return first, stop, (0, first)
    yield Prefill(first, Sees.BLOCKS, policy.block_length)
    return first, stop, None
