"""A block of a block-causal model whose finished predecessor joins the context in the same forward pass."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Directive, Outcome, Passes, Rule, Sees, Span, Until


@dataclass(frozen=True, slots=True)
class Block:
    """Columns `span` are denoised, those of them from `first_free` on; `pending` columns before them are final and not in the context yet.

    The first pass runs both and keeps the pending ones: where a block sees itself and what stands before it, they come out as if they
    had been run alone. The other passes run the block. `mask_token_id` tells when it is clean.
    """

    span: Span
    first_free: int
    pending: Span | None
    mask_token_id: int
    block_length: int

    def denoise(
        self, line: Line, rule: Rule, until: Until, limit: int, *, goes_on_when_clean: bool = False
    ) -> Generator[Directive, Outcome, None]:
        """At most `limit` passes; none where the block has no mask, and after the first none where it has no mask any more, unless it
        `goes_on_when_clean`.
        """
        if not self._masked(line):
            return
        if self.pending is None:
            yield self.passes(rule, until, limit)
            return
        yield from self.one_pass(rule, 0)
        if limit > 1 and (goes_on_when_clean or not self.is_over(line, until)):
            yield replace(self.passes(rule, until, limit - 1), first_step=1)

    def one_pass(self, rule: Rule, number: int) -> Generator[Directive, Outcome, None]:
        """Pass `number` of the block alone, from 0; the first one runs what is pending too."""
        asked = replace(self.passes(rule, Until.LIMIT, 1), first_step=number)
        if number == 0 and self.pending is not None:
            asked = replace(asked, query=(self.pending[0], self.span[1]), keep=(self.pending,))
        yield asked

    def passes(self, rule: Rule, until: Until, limit: int) -> Passes:
        """Passes over the block alone."""
        window = (max(self.span[0], self.first_free), self.span[1])
        return Passes(self.span, window, Sees.BLOCKS, rule, until, limit, block_length=self.block_length)

    def is_over(self, line: Line, until: Until) -> bool:
        """As an executor tells after a pass, except that a clean block is always over."""
        tokens = line.canvas[max(self.span[0], self.first_free) : self.span[1]].tolist()
        if until == Until.SETTLED:
            end = next((i for i, token_id in enumerate(tokens) if token_id in line.eos_token_ids), len(tokens))
            tokens = tokens[:end]
        return self.mask_token_id not in tokens

    def _masked(self, line: Line) -> bool:
        return bool((line.canvas[slice(*self.span)] == self.mask_token_id).any())
