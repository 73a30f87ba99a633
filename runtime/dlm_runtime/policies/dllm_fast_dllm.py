"""dllm's own form of Fast-dLLM v1 (ZHZisZZ/dllm, `FastdLLMLLaDASampler`), which differs in schedule, factor rule and last block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlm_runtime.policies.canvas import block_by_block, check_schedule, masks_in
from dlm_runtime.policies.fast_dllm_v1 import BlockCache, cached_query, kept_columns
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Decoding, Passes, Rule, Sees, Span, Until
from dlm_runtime.policies.quotas import Schedule, rounded_quotas


@dataclass(frozen=True, slots=True)
class DllmFastDllm:
    """As `FastDllmV1`, but for this.

    `steps` are spread over the blocks rounded up and a block's masks by `rounded_quotas`; the last block may be shorter; the factor rule
    takes nothing beyond the positions that pass; and masks that the published dual cache leaves in a block, when it stops after as many
    passes as the schedule has entries (`as_published`), stay for good. `padding_ids` stand behind the canvas and are seen like any other
    token: the published model does not hide what fills up the shorter rows of a batch.
    """

    block_length: int
    mask_token_id: int
    steps: int = 128
    schedule: Schedule = "linear"
    threshold: float | None = None
    factor: float | None = None
    cache: BlockCache = "none"
    shift: int = 0
    padding_ids: tuple[int, ...] = ()
    as_published: bool = False

    def __post_init__(self) -> None:
        check_schedule(self)

    def decode(self, line: Line) -> Decoding:
        line.lay(line.limit, self.mask_token_id)
        line.canvas = np.append(line.canvas, np.array(self.padding_ids, np.int64))
        yield from block_by_block(self, line, lambda block, blocks: self._denoise(line, block, -(-self.steps // blocks)))

    def _denoise(self, line: Line, block: Span, steps: int) -> Decoding:
        length, masks = len(line.canvas), masks_in(line, block, self.mask_token_id)
        quotas = rounded_quotas(masks, steps, self.schedule)
        rule, whole = self._rule(quotas), (0, length)
        if self.cache == "none":
            yield Passes(whole, block, Sees.WHOLE, rule, Until.CLEAN, masks, shift=self.shift)
            return
        yield Passes(whole, block, Sees.WHOLE, rule, crop=0, keep=kept_columns(self.cache, block, length), shift=self.shift)
        left = masks_in(line, block, self.mask_token_id)
        limit = min(left, len(quotas) - 1) if self.as_published and self.cache == "dual" else left
        if limit:
            query = cached_query(self.cache, block, length)
            yield Passes(query, block, Sees.WHOLE, rule, Until.CLEAN, limit, shift=self.shift, first_step=1)

    def _rule(self, quotas: tuple[int, ...]) -> Rule:
        if self.factor is not None:
            return Rule(factor=self.factor)
        if self.threshold is not None:
            return Rule(threshold=self.threshold)
        return Rule((*quotas, 1))
