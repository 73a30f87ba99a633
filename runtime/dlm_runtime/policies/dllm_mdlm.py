"""The samplers of dllm (ZHZisZZ/dllm) for masked diffusion: LLaDA's loop and Dream's with its own schedule of whole tokens."""

from __future__ import annotations

from dataclasses import dataclass

from dlm_runtime.policies.canvas import block_by_block, check_schedule, from_first_mask, masks_in, settle
from dlm_runtime.policies.capped_threshold import CappedThreshold
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Decoding, Measure, Passes, Rule, Sees, Span, Until
from dlm_runtime.policies.quotas import Schedule, rounded_quotas
from dlm_runtime.policies.sampler import Sampler


@dataclass(frozen=True, slots=True)
class DllmMdlm:
    """`MDLMSampler.sample`: block after block of a canvas of prompt and `line.limit` masks, every pass over all of it.

    `steps` are spread over the blocks, rounded up, and a block's masks over its steps by `rounded_quotas`, the surest first; the last block
    may be shorter. A line that is served ends with the block that holds its end.
    """

    block_length: int
    steps: int
    mask_token_id: int
    schedule: Schedule = "linear"
    shift: int = 0
    sampler: Sampler | None = None
    as_published: bool = False

    def __post_init__(self) -> None:
        check_schedule(self)

    def decode(self, line: Line) -> Decoding:
        line.lay(line.limit, self.mask_token_id)
        yield from block_by_block(self, line, lambda block, blocks: self._denoise(line, block, -(-self.steps // blocks)))

    def _denoise(self, line: Line, block: Span, steps: int) -> Decoding:
        quotas = rounded_quotas(masks_in(line, block, self.mask_token_id), steps, self.schedule)
        yield Passes(
            query=(0, len(line.canvas)),
            window=from_first_mask(line, block[1], self.mask_token_id),
            sees=Sees.WHOLE,
            rule=Rule(quotas, sampler=self.sampler),
            limit=len(quotas),
            shift=self.shift,
            guided=line.sampling.guidance > 0,
        )


@dataclass(frozen=True, slots=True)
class DllmDream:
    """`DreamSampler.sample`: Dream's loop, whose masks are spread over `steps` by `rounded_quotas`.

    With a `threshold` (`FastdLLMDreamSampler` without a cache) the schedule is the most that may be committed by then, of the positions
    that reach the threshold, the surest in any case; and passes go on until no mask is left.
    """

    steps: int
    mask_token_id: int
    schedule: Schedule = "linear"
    measure: Measure = Measure.PROBABILITY
    alg_temperature: float = 0.0
    shift: int = 1
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"{self.steps=} must be at least 1")

    def decode(self, line: Line) -> Decoding:
        line.lay(line.limit, self.mask_token_id)
        length = len(line.canvas)
        masks = masks_in(line, (0, length), self.mask_token_id)
        quotas = rounded_quotas(masks, self.steps, self.schedule)
        sampler, until, limit = None, Until.LIMIT, len(quotas)
        if self.threshold is not None:
            quotas = tuple(sum(quotas[number + 1 :]) for number in range(limit))  # how many masks have to stay
            sampler, until, limit = CappedThreshold(self.threshold), Until.CLEAN, masks
        yield Passes(
            query=(0, length),
            window=from_first_mask(line, length, self.mask_token_id),
            sees=Sees.WHOLE,
            rule=Rule(quotas, measure=self.measure, alg_temperature=self.alg_temperature, tempered=True, sampler=sampler),
            until=until,
            limit=limit,
            shift=self.shift,
            guided=line.sampling.guidance > 0,
        )
        settle(line, (line.prompt_length, length))
