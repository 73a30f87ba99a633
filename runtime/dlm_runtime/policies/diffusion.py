"""Threshold diffusion over blocks with causal context (Nemotron-Labs-Diffusion `generate`)."""

from __future__ import annotations

from dataclasses import dataclass

from dlm_runtime.engines.base import THRESHOLD_OFF
from dlm_runtime.policies.block import Block
from dlm_runtime.policies.forward import Decoding, Forward, Prefill
from dlm_runtime.policies.line import Line


@dataclass(frozen=True, slots=True)
class ThresholdDiffusion:
    """Denoises block after block, each seeded with the next token of what stands before it.

    A step commits every masked position whose confidence reaches `threshold`, and the best one in any case; without a threshold an even
    share of `block_length` steps. A block is done when it has no mask, or none before its first end of line. A causal pass over it then
    yields its keys and values and the seed of the next one.

    A line that is served needs less than the published loop does (`as_published`): the last block is cut to the tokens still allowed, what
    stands behind a committed end of line is dropped, for nobody will read it, and nothing is run after the last block.
    `causal_context=False` is the published variant without seeds, in which prompt and blocks are stored bidirectionally.
    """

    block_length: int
    mask_token_id: int
    threshold: float | None = 0.9
    causal_context: bool = True
    as_published: bool = False

    def decode(self, line: Line) -> Decoding:
        reply = yield Prefill(line.prompt_ids, line.temperature, self.causal_context)
        while True:
            seed_ids = reply.sampled[-1:] if self.causal_context else []
            length = self.block_length if self.as_published else min(self.block_length, line.room)
            block = Block.after(seed_ids, length, self.mask_token_id)
            line.show(block.token_ids[: len(seed_ids)], [True] * len(seed_ids))
            masks, step = block.masks, 0
            while (settled := block.settled(line.eos_token_ids)) is None:
                yield from block.denoise(*self._pace(masks, step), line.temperature, step + 1)
                if not self.as_published:
                    block.cut_behind_end(line.eos_token_ids)
                line.show(block.draft(), block.frozen)
                step += 1
            ended = line.extend(settled)
            if ended and not self.as_published:
                return
            reply = yield Forward(block.token_ids, self.causal_context, len(block) - 1, 1, temperature=line.temperature, keeps=True)
            reply.keep(len(block))
            if ended:
                return

    def _pace(self, masks: int, step: int) -> tuple[int, float]:
        """Quota and threshold of step number `step` of a block that began with `masks` masks."""
        if self.threshold is not None:
            return 1, self.threshold
        share, rest = divmod(masks, self.block_length)
        return share + (step < rest), THRESHOLD_OFF
