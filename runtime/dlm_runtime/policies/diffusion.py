"""Threshold diffusion over blocks with causal context (Nemotron-Labs-Diffusion `generate`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Decoding, Passes, Prefill, Rule, Sees, Until
from dlm_runtime.policies.quotas import even_quotas
from dlm_runtime.policies.thinking import NO_BUDGET, ThinkingBudget


@dataclass(frozen=True, slots=True)
class ThresholdDiffusion:
    """Denoises block after block, each seeded with the next token of what stands before it.

    A pass commits every masked position whose confidence reaches `threshold`, and the best one in any case; without a threshold an even
    share of `steps_per_block` passes (None: as many as the block has positions). A block is done when it has no mask, or none before its
    first end of line. A causal pass over it then yields its keys and values and the seed of the next one. `thinking` ends a chain of
    thought that has become too long.

    A line that is served needs less than the published loop does (`as_published`): the last block is cut to the tokens still allowed, what
    stands behind a committed end of line is dropped, for nobody will read it, and nothing is run after the last block.
    `causal_context=False` is the published variant without seeds, in which prompt and blocks are stored bidirectionally.
    """

    block_length: int
    mask_token_id: int
    threshold: float | None = 0.9
    causal_context: bool = True
    as_published: bool = False
    steps_per_block: int | None = None
    thinking: ThinkingBudget = NO_BUDGET

    def __post_init__(self) -> None:
        if self.steps_per_block is not None and self.steps_per_block < 1:
            raise ValueError(f"{self.steps_per_block=} must be at least 1")

    def decode(self, line: Line) -> Decoding:
        sees = Sees.CAUSAL if self.causal_context else Sees.WHOLE
        outcome = yield Prefill(line.prompt_length, sees)
        while True:
            start = len(line.canvas)
            stop = start + (self.block_length if self.as_published else min(self.block_length, line.room))
            line.lay(stop - start, self.mask_token_id)
            if self.causal_context:
                line.canvas[start] = outcome.sampled[-1]
            self._end_thought(line, start)
            if self._needs_passes(line, start):
                yield self._denoising(line, start)
            ended = line.extend(line.canvas[start:].tolist())
            if ended and not self.as_published:
                return
            outcome = yield Passes((start, stop), (stop - 1, stop), sees, keep=((start, stop),), next_token=True)
            if ended:
                return

    def _end_thought(self, line: Line, start: int) -> None:
        """Puts the token that ends the thought into the block in which the budget runs out, and into later ones while there is none."""
        offset = self.thinking.place(line.canvas[line.prompt_length : start], len(line.canvas) - start)
        if offset is not None:
            line.canvas[start + offset] = self.thinking.end

    def _needs_passes(self, line: Line, start: int) -> bool:
        block = line.canvas[start:].tolist()
        if not self.as_published:  # the published loop looks for ends of line after a pass only
            block = block[: next((i for i, token_id in enumerate(block) if token_id in line.eos_token_ids), len(block))]
        return self.mask_token_id in block

    def _denoising(self, line: Line, start: int) -> Passes:
        stop = len(line.canvas)
        masked = np.flatnonzero(line.canvas[start:] == self.mask_token_id)
        steps = self.steps_per_block or self.block_length
        rule = Rule(even_quotas(len(masked), steps)) if self.threshold is None else Rule(threshold=self.threshold)
        # What stands before the first mask is no end of line, or there would be no passes, except in the published loop.
        window = (start if self.as_published else start + int(masked[0]), stop)
        return Passes((start, stop), window, Sees.WHOLE, rule, Until.SETTLED, steps, cut_at_end=not self.as_published)
