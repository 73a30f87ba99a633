"""Block diffusion as Fast-dLLM v2 publishes it (`Fast_dLLM_QwenForCausalLM.generate`)."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Decoding, Directive, Outcome, Passes, Prefill, Rule, Sees, Span, Until, strictly_above


@dataclass(frozen=True, slots=True)
class SubBlockDiffusion:
    """Denoises a block sub-block by sub-block; the logits at the position before speak for a position.

    A pass takes all positions of the sub-block surer than `threshold`, the best one in any case. A finished block is run once more: that
    stores it, and its last logits give the first token of the next. A line ends as soon as no mask stands before its end of line.

    `block_cache` runs the whole block only until a sub-block's first position is filled in, and then the sub-block alone against the other
    columns' keys and values as that pass left them.

    `as_published` writes `limit // block_length` blocks, counted from the one the prompt ends in, and the first token of the next one: the
    line may come out shorter or one token longer than its limit. The published loop forgets a prompt of exactly one block; ours does not.
    """

    block_length: int
    mask_token_id: int
    sub_block_length: int = 8
    threshold: float = 0.9
    block_cache: bool = False
    as_published: bool = False

    def __post_init__(self) -> None:
        if self.sub_block_length < 1 or self.block_length % self.sub_block_length:
            raise ValueError(f"{self.sub_block_length=} must divide {self.block_length=}")

    def decode(self, line: Line) -> Decoding:
        length, prompt = self.block_length, line.prompt_length
        line.canvas = np.array(line.prompt_ids, np.int64)
        aligned, blocks_left = prompt // length * length, line.limit // length
        if aligned:
            outcome = yield Prefill(aligned, Sees.BLOCKS, length)
            if aligned == prompt and self._takes(line, [int(outcome.sampled[-1])]):
                return
        while not self.as_published or blocks_left:
            blocks_left -= 1
            begun = len(line.canvas)
            line.lay(length - begun % length, self.mask_token_id)
            span = (len(line.canvas) - length, len(line.canvas))
            yield from self._denoise(line, span, begun)
            if self._takes_block(line, begun):
                return
            asked = Passes(span, (span[1] - 1, span[1]), Sees.BLOCKS, crop=span[0], keep=(span,), next_token=True, block_length=length)
            outcome = yield asked
            if self._takes(line, [int(outcome.sampled[-1])]):
                return
        line.ending = line.ending or "length"

    def _takes(self, line: Line, token_ids: list[int]) -> bool:
        line.canvas = np.append(line.canvas, np.array(token_ids, np.int64))
        return self._ends(line, token_ids)

    def _takes_block(self, line: Line, begun: int) -> bool:
        return self._ends(line, line.canvas[begun:].tolist())

    def _ends(self, line: Line, token_ids: list[int]) -> bool:
        """Settles tokens. The published loop goes by its blocks, not by the line's limit."""
        if line.ending == "length" or (line.extend(token_ids) and line.ending == "length"):
            return not self.as_published
        return line.ending is not None

    def _denoise(self, line: Line, span: Span, begun: int) -> Generator[Directive, Outcome, None]:
        """The sub-blocks of `span`; columns from `begun` on are new in it."""
        for start in range(span[0], span[1], self.sub_block_length):
            sub_block = (start, start + self.sub_block_length)
            new = line.canvas[begun : sub_block[1]].tolist()
            end = next((i for i, token_id in enumerate(new) if token_id in line.eos_token_ids), len(new))
            if sub_block[1] <= begun or self.mask_token_id not in new[:end]:
                continue
            asked = self._passes(span, (max(start, begun), sub_block[1]))
            if not self.block_cache:
                yield asked
                continue
            yield from self._with_block_cache(line, span, sub_block, asked)

    def _passes(self, query: Span, window: Span) -> Passes:
        rule = Rule(threshold=strictly_above(self.threshold), tempered=True)
        return Passes(query, window, Sees.WHOLE, rule, Until.SETTLED, self.sub_block_length, shift=1)

    def _with_block_cache(self, line: Line, span: Span, sub_block: Span, asked: Passes) -> Generator[Directive, Outcome, None]:
        others = tuple(part for part in ((span[0], sub_block[0]), (sub_block[1], span[1])) if part[0] < part[1])
        while True:
            yield Passes(span, asked.window, asked.sees, asked.rule, asked.until, 1, crop=span[0], keep=others, shift=1)
            window = line.canvas[slice(*asked.window)].tolist()
            end = next((i for i, token_id in enumerate(window) if token_id in line.eos_token_ids), len(window))
            if self.mask_token_id not in window[:end]:
                return
            if line.canvas[sub_block[0]] != self.mask_token_id:
                yield self._passes(sub_block, asked.window)
                return
