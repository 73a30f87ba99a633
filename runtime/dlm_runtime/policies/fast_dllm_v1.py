"""Fast-dLLM v1 (Wu et al. 2025) for LLaDA: confidence-aware parallel decoding, with approximate caches of a bidirectional model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from dlm_runtime.policies.canvas import block_by_block, check_schedule, from_first_mask, masks_in
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Decoding, Passes, Rule, Sees, Span, Until
from dlm_runtime.policies.quotas import even_quotas

BlockCache = Literal["none", "prefix", "dual"]


def kept_columns(cache: BlockCache, block: Span, length: int) -> tuple[Span, ...]:
    """Columns of a canvas of `length` that a full pass keeps for the block: what stands before it, and for the dual cache behind it too."""
    before, behind = ((0, block[0]),) if block[0] else (), ((block[1], length),) if block[1] < length else ()
    return before + behind if cache == "dual" else before


def cached_query(cache: BlockCache, block: Span, length: int) -> Span:
    """Columns that passes on a cache run: the block, and what stands behind it unless that is cached."""
    return block if cache == "dual" else (block[0], length)


def until_clean(line: Line, block: Span, asked: Passes, mask_token_id: int) -> Decoding:
    """Passes until no mask is left in the block; masks before it are filled in meanwhile, but nobody waits for them."""
    if asked.window[0] >= block[0]:
        yield asked
        return
    number = 0
    while masks_in(line, block, mask_token_id):
        window = from_first_mask(line, block[1], mask_token_id)
        yield replace(asked, window=window, until=Until.LIMIT, limit=1, first_step=number)
        number += 1


@dataclass(frozen=True, slots=True)
class FastDllmV1:
    """Denoises block after block of a canvas of prompt and `line.limit` masks.

    `factor` commits the k surest positions while the k-th is at least 1 - factor / (k + 1) sure; else `threshold` all that reach it, and
    the surest in any case; else an even share of `steps`. `cache` "none" runs the whole canvas every time; "prefix" runs it once per
    block, which commits too, keeps what stands before the block and then runs the rest; "dual" keeps what stands behind as well and runs
    the block alone. The published dual cache stops after `steps` / blocks passes, even where masks are left (`as_published`); here it
    goes on. `line.sampling.guidance` is for "none" alone.
    """

    block_length: int
    mask_token_id: int
    steps: int = 128
    threshold: float | None = 0.9
    factor: float | None = None
    cache: BlockCache = "none"
    as_published: bool = False

    def __post_init__(self) -> None:
        check_schedule(self)

    def decode(self, line: Line) -> Decoding:
        line.lay(line.limit, self.mask_token_id)
        yield from block_by_block(self, line, lambda block, blocks: self._denoise(line, block, max(self.steps // blocks, 1)))

    def _denoise(self, line: Line, block: Span, steps: int) -> Decoding:
        length, masks = len(line.canvas), masks_in(line, block, self.mask_token_id)
        rule = self._rule(masks, steps)
        # Masks of the prompt, and those that the published dual cache left in earlier blocks, are filled in by full passes.
        window, whole = from_first_mask(line, block[1], self.mask_token_id), (0, length)
        if self.cache == "none":
            asked = Passes(whole, window, Sees.WHOLE, rule, Until.CLEAN, limit=length, guided=line.sampling.guidance > 0)
            yield from until_clean(line, block, asked, self.mask_token_id)
            return
        yield Passes(whole, window, Sees.WHOLE, rule, crop=0, keep=kept_columns(self.cache, block, length))
        left = masks_in(line, block, self.mask_token_id)
        limit = min(left, steps - 1) if self.as_published and self.cache == "dual" else left
        if limit:
            yield Passes(cached_query(self.cache, block, length), block, Sees.WHOLE, rule, Until.CLEAN, limit, first_step=1)

    def _rule(self, masks: int, steps: int) -> Rule:
        if self.factor is not None:
            return Rule(factor=self.factor, takes_last=True)
        if self.threshold is not None:
            return Rule(threshold=self.threshold)
        return Rule((*even_quotas(masks, steps), 1))
