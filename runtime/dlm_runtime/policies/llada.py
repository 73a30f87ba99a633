"""LLaDA's sampler (Nie et al. 2025, `generate`): one canvas, no cache, and a fixed number of tokens in every pass."""

from __future__ import annotations

from dataclasses import dataclass

from dlm_runtime.policies.canvas import block_by_block, check_schedule, from_first_mask, masks_in
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Decoding, Passes, Rule, Sees, Span, Until
from dlm_runtime.policies.quotas import even_quotas
from dlm_runtime.policies.sampler import Sampler


@dataclass(frozen=True, slots=True)
class Llada:
    """Denoises block after block, every pass over the whole canvas of prompt and `line.limit` masks.

    `steps` passes are spread evenly over the blocks, and a block's masks evenly over its passes, the surest first; `line.sampling.guidance`
    is classifier-free guidance. A line that is served ends with the block that holds its end, and needs no passes that commit nothing;
    `as_published` has both. `sampler` may change how sure a token is.
    """

    block_length: int
    steps: int
    mask_token_id: int
    sampler: Sampler | None = None
    as_published: bool = False

    def __post_init__(self) -> None:
        check_schedule(self)

    def decode(self, line: Line) -> Decoding:
        line.lay(line.limit, self.mask_token_id)
        yield from block_by_block(self, line, lambda block, blocks: self._denoise(line, block, max(self.steps // blocks, 1)))

    def _denoise(self, line: Line, block: Span, steps: int) -> Decoding:
        masks = masks_in(line, block, self.mask_token_id)
        quotas = even_quotas(masks, min(steps, masks + 1))  # of the zeros behind the masks' ones a single one is enough
        yield Passes(
            query=(0, len(line.canvas)),
            window=from_first_mask(line, block[1], self.mask_token_id),
            sees=Sees.WHOLE,
            rule=Rule(quotas, sampler=self.sampler),
            until=Until.LIMIT if self.as_published else Until.CLEAN,
            limit=steps,
            guided=line.sampling.guidance > 0,
        )
