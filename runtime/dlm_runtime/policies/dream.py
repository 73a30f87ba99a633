"""Dream's sampler (Ye et al. 2025, `diffusion_generate`): one canvas, no cache, and a schedule over the whole of it."""

from __future__ import annotations

from dataclasses import dataclass

from dlm_runtime.policies.canvas import from_first_mask, masks_in, settle
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Decoding, Measure, Passes, Rule, Sees, Until
from dlm_runtime.policies.quotas import truncated_quotas


@dataclass(frozen=True, slots=True)
class Dream:
    """Every pass runs the whole canvas of prompt and `line.limit` masks, and commits the surest positions of all.

    How sure a position is says `measure`: the drawn token's probability (`maskgit_plus`), its lead over the second (`topk_margin`) or
    the negative entropy (`entropy`), all after temperature, top_k and top_p; `alg_temperature` > 0 ranks them with noise. The schedule
    runs over `steps` intervals from 1 to `eps`, cut to whole tokens, so a pass may commit nothing; such passes are run only
    `as_published`.
    """

    mask_token_id: int
    steps: int = 512
    measure: Measure = Measure.PROBABILITY
    eps: float = 1e-3
    alg_temperature: float = 0.0
    shift: int = 1
    as_published: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"{self.steps=} must be at least 1")
        if not 0 < self.eps < 1:
            raise ValueError(f"{self.eps=} must be above 0 and below 1")

    def decode(self, line: Line) -> Decoding:
        line.lay(line.limit, self.mask_token_id)
        length = len(line.canvas)
        masks = masks_in(line, (0, length), self.mask_token_id)
        quotas = truncated_quotas(masks, self.steps, self.eps)
        if not self.as_published:
            quotas = tuple(quota for quota in quotas if quota)
        yield Passes(
            query=(0, length),
            window=from_first_mask(line, length, self.mask_token_id),
            sees=Sees.WHOLE,
            rule=Rule(quotas, measure=self.measure, alg_temperature=self.alg_temperature, tempered=True),
            until=Until.LIMIT,
            limit=len(quotas),
            shift=self.shift,
            guided=line.sampling.guidance > 0,
        )
        settle(line, (line.prompt_length, length))
