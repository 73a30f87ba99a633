"""Block diffusion as SDAR publishes it (`block_diffusion_generate`; S2D2's base loop is the same)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dlm_runtime.policies.fused import Block
from dlm_runtime.policies.leftmost import Leftmost
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Decoding, Passes, Prefill, Rule, Sees, Until, strictly_above
from dlm_runtime.policies.quotas import even_quotas

Strategy = Literal["low_confidence_dynamic", "low_confidence_static", "sequential"]
STRATEGIES: tuple[Strategy, ...] = ("low_confidence_dynamic", "low_confidence_static", "sequential")


@dataclass(frozen=True, slots=True)
class BlockDiffusion:
    """Denoises aligned blocks one after the other; a block joins the context when it is clean.

    `denoising_steps` share a block's positions evenly. "low_confidence_static" takes the surest ones, "low_confidence_dynamic" all that are
    surer than `threshold` where that is more, "sequential" the leftmost. Where fewer positions are masked than the quota says, the
    published loop overwrites others too; ours does not. The canvas ends at a block border behind the line's limit.
    `confidence_temperature` divides the logits by which confidence is measured where a line has temperature 0.

    The published loop (`as_published`) runs every finished block once more to store it, the last one too, and looks for ends of line only
    then. Ours stores a block in the first pass of the next, and ends a block when its end of line stands.
    """

    block_length: int
    mask_token_id: int
    denoising_steps: int
    strategy: Strategy = "low_confidence_dynamic"
    threshold: float = 0.85
    confidence_temperature: float = 1.0
    as_published: bool = False

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            remedy = " (its entropies are not those of a distribution in the published code)" if self.strategy == "entropy_bounded" else ""
            raise ValueError(f"{self.strategy=} is not one of {', '.join(STRATEGIES)}{remedy}")
        if self.denoising_steps < 1:
            raise ValueError(f"{self.denoising_steps=} must be at least 1")
        if not self.confidence_temperature > 0:
            raise ValueError(f"{self.confidence_temperature=} must be above 0")

    def decode(self, line: Line) -> Decoding:
        length, prompt = self.block_length, line.prompt_length
        first, stop = aligned_canvas(line, length, self.mask_token_id)
        if first:
            yield Prefill(first, Sees.BLOCKS, length)
        rule, pending = self.rule(), None
        for start in range(first, stop, length):
            span = (start, start + length)
            block = Block(span, prompt, pending, self.mask_token_id, length)
            yield from block.denoise(line, rule, Until.CLEAN if self.as_published else Until.SETTLED, self.denoising_steps)
            if self.as_published:
                yield Passes(span, span, Sees.BLOCKS, keep=(span,), block_length=length)
            else:
                pending = span
            if line.extend(line.canvas[max(start, prompt) : span[1]].tolist()):
                return

    def rule(self) -> Rule:
        """What every pass of a block commits."""
        quotas = even_quotas(self.block_length, self.denoising_steps)
        scales = (1.0 / self.confidence_temperature,)
        match self.strategy:
            case "sequential":
                return Rule(quotas, sampler=Leftmost(), tempered=True, scales=scales)
            case "low_confidence_static":
                return Rule(quotas, tempered=True, scales=scales)
            case "low_confidence_dynamic":
                return Rule(quotas, strictly_above(self.threshold), tempered=True, scales=scales)


def aligned_canvas(line: Line, block_length: int, mask_token_id: int) -> tuple[int, int]:
    """Lays masks up to the first block border at which the line's limit is reached. Where the prompt's whole blocks end; that border."""
    prompt = line.prompt_length
    stop = -(-(prompt + line.limit) // block_length) * block_length
    line.canvas = line.canvas[:prompt]
    line.lay(stop - prompt, mask_token_id)
    return prompt // block_length * block_length, stop
