"""Self-speculation for block diffusion as S2D2 publishes it: the model checks its drafts as if its blocks were of one token."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np
from dlm_kernels.unmask.draws import uniform
from numpy.typing import NDArray

from dlm_runtime.policies.distributions import distributions
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Decoding, Directive, Outcome, Passes, Prefill, Sees, Span
from dlm_runtime.policies.quotas import even_quotas
from dlm_runtime.policies.sampling import Sampling
from dlm_runtime.policies.sdar import STRATEGIES, Strategy, aligned_canvas
from dlm_runtime.policies.when_to_verify import Drafted, Judge, Verification

Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]
_FIRST_DRAW = 1 << 20  # counters of acceptance draws lie behind those of passes
_LEAST = np.float32(1e-12)


@dataclass(frozen=True, slots=True)
class SelfSpeculation:
    """Drafts every masked position of a block, then verifies the first run of masks in a second pass, where `verification` says so.

    The verifying pass runs the drafted block causally and as many masks, each of which sees the tokens before its position. A drafted token
    is accepted with probability min(1, (q / p) ** `ratio_tempering`), p the draft's probability and q the verifier's; the first that is
    not is drawn from what q has more than p (`allow_resample`), and filled in as well. With `ratio_threshold` >= 0 tokens whose ratio
    reaches it are accepted behind a rejection too, of the first run or of `all_spans`. Where fewer than the quota were filled in, the rest
    comes from the base loop's rule (see `BlockDiffusion`); `checks_sure` takes all sure positions in any case.

    `cache_ver` stores the prompt and finished blocks causally; `draft_ver` lets what stands before a block's first mask see causally, and
    without the former stores it as its last draft saw it.
    Acceptance draws come from the line's seed; with `fixed_draw` they are that number, and the residual's likeliest token is taken.
    `banned_token_ids` are left out of all distributions. q, and p of the residual, are shaped as the line draws, or as `odds` says:
    published lines that take the likeliest token still compare tempered distributions.
    """

    block_length: int
    mask_token_id: int
    denoising_steps: int
    strategy: Strategy = "low_confidence_dynamic"
    threshold: float = 0.85
    verification: Verification = field(default_factory=Verification)
    cache_ver: bool = False
    draft_ver: bool = False
    ratio_tempering: float = 1.0
    ratio_threshold: float = -1.0
    all_spans: bool = False
    checks_sure: bool = False
    allow_resample: bool = True
    fixed_draw: float | None = None
    odds: Sampling | None = None
    banned_token_ids: tuple[int, ...] = ()
    as_published: bool = False

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ValueError(f"{self.strategy=} is not one of {', '.join(STRATEGIES)}")
        if self.denoising_steps < 1:
            raise ValueError(f"{self.denoising_steps=} must be at least 1")
        if self.fixed_draw is not None and not 0 <= self.fixed_draw < 1:
            raise ValueError(f"{self.fixed_draw=} must be at least 0 and below 1")

    def decode(self, line: Line) -> Decoding:
        length, prompt = self.block_length, line.prompt_length
        first, stop = aligned_canvas(line, length, self.mask_token_id)
        stored = Sees.CAUSAL if self.cache_ver else Sees.BLOCKS
        if first:
            yield Prefill(first, stored, length)
        judge = Judge(self.verification, self.threshold)
        for start in range(first, stop, length):
            span = (start, start + length)
            quotas, filled_in, step, head = even_quotas(length, self.denoising_steps), 0, 0, 0
            while not self._is_over(line, span):
                head = self._causal_head(line, span)
                filled_in += yield from self._step(line, span, judge, quotas[step], filled_in, step)
                step += 1
            ended = line.extend(line.canvas[max(start, prompt) : span[1]].tolist())
            if ended and not self.as_published:
                return
            yield Passes(span, span, Sees.CAUSAL if self.cache_ver else Sees.WHOLE, keep=(span,), causal_head=head)
            if ended:
                return

    def _is_over(self, line: Line, span: Span) -> bool:
        tokens = line.canvas[max(span[0], line.prompt_length) : span[1]].tolist()
        if not self.as_published:
            tokens = tokens[: next((i for i, token_id in enumerate(tokens) if token_id in line.eos_token_ids), len(tokens))]
        return self.mask_token_id not in tokens

    def _step(self, line: Line, span: Span, judge: Judge, quota: int, filled_in: int, step: int) -> Generator[Directive, Outcome, int]:
        """One draft, and its verification if there is one. How many positions were filled in."""
        block = line.canvas[slice(*span)].copy()
        masked = block == self.mask_token_id
        head = self._causal_head(line, span)
        outcome = yield Passes(span, span, Sees.WHOLE, first_step=step, causal_head=head, wants_logits=True)
        draft_odds = self._odds(line, outcome, self.odds)
        own_odds = draft_odds if self.odds is None else self._odds(line, outcome, None)
        confidence = np.take_along_axis(own_odds, outcome.sampled[:, None], 1)[:, 0]
        drafted = Drafted(masked, confidence, draft_odds, first_run(masked), filled_in)
        tokens, taken = outcome.sampled.copy(), np.zeros_like(masked)
        verifies = judge.verifies(drafted)
        if verifies:
            line.canvas[slice(*span)] = np.where(masked, tokens, block)
            outcome = yield Passes(span, span, Sees.ECHO, first_step=step, wants_logits=True)
            line.canvas[slice(*span)] = block
            taken = self._accept(line, span, drafted, tokens, self._odds(line, outcome, self.odds), step)
        if self.checks_sure:
            taken |= masked & (confidence > np.float32(self.threshold))
        left = min(quota, int(masked.sum())) - int(taken.sum())
        if left > 0:
            taken |= self._fall_back(masked & ~taken, confidence, left)
        line.canvas[slice(*span)] = np.where(taken, tokens, block)
        judge.learn(int(taken.sum()), verifies)
        return int(taken.sum())

    def _causal_head(self, line: Line, span: Span) -> int:
        """How many columns of the block see causally while it is drafted."""
        return int(np.flatnonzero(line.canvas[slice(*span)] == self.mask_token_id)[0]) if self.draft_ver else 0

    def _odds(self, line: Line, outcome: Outcome, sampling: Sampling | None) -> Float32:
        assert outcome.logits is not None  # asked for
        return distributions(outcome.logits, sampling or line.sampling, self.banned_token_ids)

    def _accept(self, line: Line, span: Span, drafted: Drafted, tokens: Int64, odds: Float32, step: int) -> Bools:
        """Which positions are filled in; a token that was drawn anew is changed in `tokens`."""
        taken = np.zeros_like(drafted.masked)
        wanted = np.take_along_axis(odds, tokens[:, None], 1)[:, 0]
        ratios = np.minimum((wanted / np.maximum(drafted.confidence, _LEAST)) ** np.float32(self.ratio_tempering), np.float32(1))
        for place in drafted.span:
            taken[place] = True
            if not self._draw(line, span[0] + place, step) < ratios[place]:
                if self.allow_resample:
                    tokens[place] = self._residual(line, span[0] + place, step, odds[place], drafted.distributions[place])
                break
        if self.ratio_threshold >= 0:
            in_reach = drafted.masked if self.all_spans else np.isin(np.arange(len(taken)), drafted.span)
            taken |= in_reach & (ratios >= np.float32(self.ratio_threshold))
        return taken

    def _draw(self, line: Line, column: int, step: int) -> float:
        """Uniform between 0 and 1."""
        if self.fixed_draw is not None:
            return self.fixed_draw
        return float(self._uniform(line, column, step, 1)[0])

    def _residual(self, line: Line, column: int, step: int, odds: Float32, draft_odds: Float32) -> int:
        """A token from (q - p)+, or from q where that is nothing."""
        surplus = np.maximum(odds - draft_odds, 0)
        weights = surplus if surplus.sum() > 0 else odds
        if self.fixed_draw is not None:
            return int(weights.argmax())
        # The exponential race: the token whose clock rings first, at a rate of its weight.
        clocks = -np.log(self._uniform(line, column, step, len(weights), first=1).astype(np.float64))
        return int(np.argmin(np.divide(clocks, weights, out=np.full(len(weights), np.inf), where=weights > 0)))

    def _uniform(self, line: Line, column: int, step: int, count: int, first: int = 0) -> Float32:
        seed, position = np.array([line.sampling.seed]), np.array([[line.first_position + column]])
        return uniform(seed, np.array([_FIRST_DRAW + step]), position, count, first)[0, 0]

    def _fall_back(self, masked: Bools, confidence: Float32, count: int) -> Bools:
        """At least `count` of the masked positions, by the base loop's rule."""
        if self.strategy == "sequential":
            return masked & (np.cumsum(masked) <= count)
        order = np.argsort(np.where(masked, -confidence, np.inf), kind="stable")
        best = masked & np.isin(np.arange(len(masked)), order[:count])
        sure = masked & (confidence > np.float32(self.threshold))
        return sure if self.strategy == "low_confidence_dynamic" and sure.sum() >= count else best


def first_run(masked: Bools) -> list[int]:
    """Places of the first unbroken run of masks."""
    start = int(np.argmax(masked))
    stop = next((i for i in range(start, len(masked)) if not masked[i]), len(masked))
    return list(range(start, stop)) if masked[start] else []
