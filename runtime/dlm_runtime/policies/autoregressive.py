"""One token after the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Decoding, Extend, Passes, Prefill, Sees
from dlm_runtime.policies.thinking import NO_BUDGET, ThinkingBudget


@dataclass(frozen=True, slots=True)
class Autoregressive:
    """Draws the next token and runs it, until the line ends; the last token is not run.

    With a `thinking` budget every token is asked for on its own, since any of them may be put in instead of drawn.
    """

    thinking: ThinkingBudget = NO_BUDGET

    def decode(self, line: Line) -> Decoding:
        outcome = yield Prefill(line.prompt_length)
        if self.thinking.limits:
            yield from self._with_budget(line, int(outcome.sampled[-1]))
            return
        seed_id = int(outcome.sampled[-1])
        if not line.extend([seed_id]):
            outcome = yield Extend(seed_id)
            line.extend(outcome.tokens)

    def _with_budget(self, line: Line, token_id: int) -> Decoding:
        line.canvas = np.array(line.prompt_ids, np.int64)
        while True:
            if self.thinking.place(line.canvas[line.prompt_length :], 1) is not None:
                token_id = self.thinking.end
            column = len(line.canvas)
            line.canvas = np.append(line.canvas, np.int64(token_id))
            if line.extend([token_id]):
                return
            span = (column, column + 1)
            outcome = yield Passes(span, span, Sees.CAUSAL, keep=(span,), next_token=True)
            token_id = int(outcome.sampled[-1])
