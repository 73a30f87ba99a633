"""Fast-dLLM v1 (Wu et al. 2025) for Dream: every block's first token comes from a full pass, the others from passes on its cache."""

from __future__ import annotations

from dataclasses import dataclass

from dlm_runtime.policies.canvas import block_by_block, check_schedule, masks_in
from dlm_runtime.policies.fast_dllm_v1 import BlockCache, cached_query, kept_columns
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Decoding, Measure, Passes, Rule, Sees, Span, Until
from dlm_runtime.policies.quotas import truncated_quotas


@dataclass(frozen=True, slots=True)
class FastDllmV1Dream:
    """Denoises block after block of a canvas of prompt and `line.limit` masks, with `cache` "prefix" or "dual" as `FastDllmV1` has them.

    With `threshold` all positions are committed that reach it, and the surest in any case. Without one, Dream's schedule is followed on the
    block, `steps` spread evenly over the blocks, the full pass being the first of them. A block with a single step then leaves its masks in
    the published loop (`as_published`); here they are filled in.
    """

    block_length: int
    mask_token_id: int
    steps: int = 512
    threshold: float | None = 0.9
    cache: BlockCache = "prefix"
    eps: float = 1e-3
    measure: Measure = Measure.PROBABILITY
    alg_temperature: float = 0.0
    shift: int = 1
    as_published: bool = False

    def __post_init__(self) -> None:
        check_schedule(self)
        if self.cache == "none":
            raise ValueError(f"{self.cache=} must be prefix or dual; without a cache, decode as Dream does")

    def decode(self, line: Line) -> Decoding:
        line.lay(line.limit, self.mask_token_id)
        yield from block_by_block(self, line, lambda block, blocks: self._denoise(line, block, max(self.steps // blocks, 1)))

    def _denoise(self, line: Line, block: Span, steps: int) -> Decoding:
        length, first = len(line.canvas), (block[0], block[0] + 1)
        kept = kept_columns(self.cache, block, length)
        yield Passes((0, length), first, Sees.WHOLE, Rule(tempered=True), crop=0, keep=kept, shift=self.shift)
        left = masks_in(line, block, self.mask_token_id)
        if not left and not self.as_published:
            return
        rule, limit = self._rule(left, steps)
        query = cached_query(self.cache, block, length)
        yield Passes(query, block, Sees.WHOLE, rule, Until.CLEAN, limit, shift=self.shift, first_step=1)

    def _rule(self, masks: int, steps: int) -> tuple[Rule, int]:
        """How the rest of a block is filled in, and in how many passes at most."""
        if self.threshold is not None:
            return Rule(threshold=self.threshold, measure=self.measure, tempered=True), max(masks, 1)
        later = truncated_quotas(masks, steps, self.eps, first=1) or ((0,) if self.as_published else (masks,))
        rule = Rule((0, *later), measure=self.measure, alg_temperature=self.alg_temperature, tempered=True)
        return rule, len(later)
