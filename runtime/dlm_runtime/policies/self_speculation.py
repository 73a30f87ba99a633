"""Linear self-speculation (Nemotron-Labs-Diffusion `linear_spec_generate`): the model drafts in parallel and checks itself causally."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Decoding, Passes, Prefill, Rule, Sees, Speculate, Until
from dlm_runtime.policies.thinking import NO_BUDGET, ThinkingBudget


@dataclass(frozen=True, slots=True)
class LinearSelfSpeculation:
    """Drafts a block from the last token and masks, then verifies it in one causal pass.

    Drafted tokens are accepted while the causal pass draws the same ones, plus the first it draws otherwise; the causal pass also yields
    the keys and values of what was accepted. Draws depend on seed and position only, so the line equals the autoregressive one token for
    token, at every temperature. Drafts are always the best guess: the likeliest token is the likeliest to be drawn.

    `draft_threshold` 0 drafts in a single step; higher values spend more steps on better drafts. `as_published` drafts and
    verifies whole blocks even where fewer tokens are wanted or the draft ends the line sooner. With a `thinking` budget the published loop
    seeds the blocks behind it with the token that ends the thought, which the line itself does not hold; ours does the same.
    """

    block_length: int
    mask_token_id: int
    draft_threshold: float = 0.0
    as_published: bool = False
    thinking: ThinkingBudget = NO_BUDGET

    def decode(self, line: Line) -> Decoding:
        outcome = yield Prefill(line.prompt_length)
        seed_id = int(outcome.sampled[-1])
        if line.extend([seed_id]):
            return
        if self.thinking.limits:
            yield from self._with_budget(line, seed_id)
            return
        outcome = yield Speculate(seed_id, self.block_length, self.draft_threshold, self.as_published)
        line.extend(outcome.tokens)

    def _with_budget(self, line: Line, seed_id: int) -> Decoding:
        """Block by block, as the seed of a block may have to be put in."""
        kept, rule = line.prompt_length, Rule(threshold=self.draft_threshold)
        while True:
            span = (kept, kept + self.block_length)
            line.canvas = np.append(line.canvas[:kept], np.int64(seed_id))
            line.lay(self.block_length - 1, self.mask_token_id)
            if self.block_length > 1:
                yield Passes(span, span, Sees.WHOLE, rule, Until.CLEAN, self.block_length, crop=kept)
            outcome = yield Passes(span, span, Sees.CAUSAL, keep=(span,), crop=kept, next_token=True)
            drafted, drawn = line.canvas[kept + 1 : span[1]], outcome.sampled
            differ = np.flatnonzero(drawn[:-1] != drafted)
            accepted = int(differ[0]) if len(differ) else len(drafted)
            if line.extend(drawn[: accepted + 1].tolist()):
                return
            kept, seed_id = kept + accepted + 1, int(drawn[accepted])
            if self.thinking.place(np.array(line.tokens, np.int64), 0) is not None:
                seed_id = self.thinking.end
