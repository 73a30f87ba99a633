"""Block diffusion as dllm's BD3LM sampler does it, for models converted to it (A2D) and BD3-LM itself."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

from dlm_runtime.policies.fused import Block
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Decoding, Directive, Outcome, Passes, Prefill, Rule, Sees, Span, Until
from dlm_runtime.policies.quotas import Schedule, rounded_quotas


@dataclass(frozen=True, slots=True)
class BlockSampler:
    """Block borders are counted from a prompt padded on the left to whole blocks; the padding itself is never run.

    `steps` are shared among the blocks, unless `steps_per_block` is given; a block's share is spread by dllm's `schedule`. With `shift` the
    logits at the position before speak for a position, across the block's border too. Classifier-free guidance runs the whole canvas and
    its twin in every pass. Nothing is taken by confidence alone unless there is a `threshold`, which dllm has not.

    The published loop (`as_published`) runs everything before a block once more when it begins; only the last finished block is new in it,
    so ours runs that alone: as many passes. Served, that block is run together with the first pass of the next.
    """

    block_length: int
    mask_token_id: int
    steps: int = 128
    steps_per_block: int | None = None
    shift: int = 0
    threshold: float | None = None
    schedule: Schedule = "linear"
    as_published: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"{self.steps=} must be at least 1")
        if self.steps_per_block is not None and self.steps_per_block < 1:
            raise ValueError(f"{self.steps_per_block=} must be at least 1")
        if self.shift not in (0, 1):
            raise ValueError(f"{self.shift=} must be 0 or 1")

    def decode(self, line: Line) -> Decoding:
        prompt, length = line.prompt_length, self.block_length
        line.canvas = line.canvas[:prompt]
        line.block_origin = -(-prompt % length)
        guided = line.sampling.guidance > 0
        if not guided:
            yield Prefill(prompt, Sees.BLOCKS, length)
        pending: Span | None = None
        while True:
            start, masks = len(line.canvas), min(length, line.limit - (len(line.canvas) - prompt))
            line.lay(masks, self.mask_token_id)
            span = (start, start + masks)
            if guided:
                yield self._over_all(line, span)
            else:
                yield from self._over_context(line, span, pending)
            if line.extend(line.canvas[start:].tolist()):
                return
            pending = span

    def _over_context(self, line: Line, span: Span, pending: Span | None) -> Generator[Directive, Outcome, None]:
        rule, limit, until = self._pace(line, span)
        if pending is not None and (self.as_published or self.shift):
            query = (pending[0] - self.shift, pending[1])
            yield Passes(query, pending, Sees.BLOCKS, keep=(query,), crop=query[0], block_length=self.block_length)
            pending = None
        if self.shift:  # the token before the block is run again with it, for what it says about the block's first position
            query = (span[0] - 1, span[1])
            yield Passes(query, span, Sees.BLOCKS, rule, until, limit, crop=query[0], shift=1, block_length=self.block_length)
            return
        yield from Block(span, span[0], pending, self.mask_token_id, self.block_length).denoise(line, rule, until, limit)

    def _over_all(self, line: Line, span: Span) -> Passes:
        rule, limit, until = self._pace(line, span)
        asked = Passes((0, span[1]), span, Sees.BLOCKS, rule, until, limit, shift=self.shift, block_length=self.block_length)
        return replace(asked, crop=0, guided=True)

    def _pace(self, line: Line, span: Span) -> tuple[Rule, int, Until]:
        """What passes commit, how many there are at most, and when they are over."""
        blocks = -(-line.limit // self.block_length)
        quotas = rounded_quotas(span[1] - span[0], self.steps_per_block or -(-self.steps // blocks), self.schedule)
        rule = Rule(quotas) if self.threshold is None else Rule(quotas, self.threshold)
        return rule, len(quotas), Until.CLEAN if self.as_published else Until.SETTLED
