"""The plain executor: one line, one row, straight loops. The way to read what a directive means, and what the vectorised one must equal.

Nothing is batched, cached or cut into pieces here; `plain_step` lays out a single pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from dlm_runtime.engines.base import Engine, Float32, Int64, StepResult
from dlm_runtime.engines.key_values import KeyValues
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Directive, Extend, Outcome, Passes, Policy, Prefill, Rule, Sees, Speculate, Until
from dlm_runtime.policies.plain_step import Ask, step_batch
from dlm_runtime.policies.plain_tokens import extend, speculate
from dlm_runtime.policies.sampler import SamplerStep

NO_TOKEN = -1  # the mask of a model that has none

Watch = Callable[[Int64], None]
"""Told the canvas after every pass that may have filled something in."""


@dataclass(slots=True)
class Written:
    """What was asked for, in order, and how many forward passes each of it took."""

    directives: list[Directive] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)

    @property
    def forwards(self) -> int:
        """All passes."""
        return sum(self.passes)


def run_line(engine: Engine, policy: Policy, line: Line, watch: Watch | None = None) -> Written:
    """Writes `line` to its end. Raises whatever the engine raises, and RuntimeError for a policy that leaves the line without an end."""
    row, written = PlainRow(engine, line, watch), Written()
    decoding = policy.decode(line)
    asked = next(decoding, None)
    while asked is not None:
        outcome = row.run(asked)
        written.directives.append(asked)
        written.passes.append(outcome.passes)
        try:
            asked = decoding.send(outcome)
        except StopIteration:
            asked = None
    if line.ending is None:
        raise RuntimeError(f"{policy=} ended without ending its line")
    return written


class PlainRow:
    """A line and its context: keys and values of the columns that were kept, in the order they were."""

    def __init__(self, engine: Engine, line: Line, watch: Watch | None = None) -> None:
        manifest = engine.manifest
        self.engine, self.line, self.watch = engine, line, watch
        self.mask_token_id = NO_TOKEN if manifest.mask_token_id is None else manifest.mask_token_id
        self.context = KeyValues.zeros(manifest, 1, 0)

    def run(self, directive: Directive) -> Outcome:
        """Does what one directive says."""
        match directive:
            case Prefill():
                return self._prefill(directive)
            case Passes():
                return self._passes(directive)
            case Extend():
                return extend(self, directive)
            case Speculate():
                return speculate(self, directive)

    def _prefill(self, directive: Prefill) -> Outcome:
        stop = directive.stop
        self.context = self.context.part(tokens=slice(0))
        ask = self._ask((0, stop), (stop - 1, stop), directive.sees, next_token=True, keeps=True, block_length=directive.block_length)
        ask.encode = True
        result = self.step(ask)
        self.keep(result, 0, ((0, stop),))
        return Outcome(1, result.sampled_ids[0].copy())

    def _passes(self, directive: Passes) -> Outcome:
        if directive.crop is not None:
            self.context = self.context.part(tokens=slice(directive.crop))
        sampler = None if directive.next_token else directive.rule.sampler
        width = directive.window[1] - directive.window[0]
        memory = np.zeros((1, width, sampler.memory_width if sampler else 0), np.float32)
        passes, previous_logits, over = 0, None, False
        while True:
            result = self.step(self._ask_of(directive, passes, previous_logits))
            over = self._fill_in(directive, passes, result, memory, previous_logits)
            if directive.cut_at_end and not directive.next_token and directive.sees != Sees.ECHO:
                directive = self._cut(directive)
                over = over or self._is_over(directive.until, self.line.canvas[slice(*directive.window)])
            previous_logits = None if result.logits is None else result.logits[:1].copy()
            passes += 1
            if over or passes == directive.limit:
                break
        self.keep(result, directive.query[0], directive.keep)
        confidence = result.confidence if directive.wants_confidence else None
        logits = result.logits if directive.wants_logits else None
        return Outcome(
            passes,
            result.sampled_ids[0].copy(),
            None if confidence is None else confidence[0].copy(),
            None if logits is None else logits[0].copy(),
        )

    def _fill_in(self, directive: Passes, number: int, result: StepResult, memory: Float32, previous: Float32 | None) -> bool:
        """Writes a pass into the canvas. Whether the directive is over, its limit aside."""
        if directive.next_token or directive.sees == Sees.ECHO:
            return False
        rule, (start, stop) = directive.rule, directive.window
        done = False
        if rule.sampler is None:
            window = result.canvas[0].copy()
        else:
            window, done = self._sampler_chooses(directive, rule, number, result, memory, previous)
        masked = np.flatnonzero(window == self.mask_token_id)
        if rule.takes_last and len(masked) == 1:
            window[masked] = result.sampled_ids[0, masked]
        self.line.canvas[start:stop] = window
        if self.watch is not None:
            self.watch(self.line.canvas)
        return done or self._is_over(directive.until, window)

    def _sampler_chooses(
        self, directive: Passes, rule: Rule, number: int, result: StepResult, memory: Float32, previous: Float32 | None
    ) -> tuple[Int64, bool]:
        sampler, (start, stop) = rule.sampler, directive.window
        assert sampler is not None  # the caller looked
        assert result.confidence is not None  # these two were asked for in _ask_of
        assert result.entropy is not None
        step = directive.first_step + number
        tokens = self.line.canvas[None, start:stop].copy()
        logits = result.logits[:1] if sampler.wants_logits and result.logits is not None else None
        if logits is not None and previous is None:
            previous = np.zeros_like(logits)
        seen = SamplerStep(
            parameters=np.array([sampler.parameters], np.float32),
            tokens=tokens,
            masked=tokens == self.mask_token_id,
            inside=np.ones(tokens.shape, np.bool_),
            sampled=result.sampled_ids[:1],
            confidence=result.confidence[:1],
            entropy=result.entropy[:1],
            quota=np.array([rule.quota(step)], np.int64),
            step=np.array([step], np.int64),
            seed=np.array([self.line.sampling.seed], np.int64),
            positions=self.line.first_position + np.arange(start, stop, dtype=np.int64)[None],
            memory=memory,
            likeliest=result.sampled_ids[:1] if result.top_ids is None else result.top_ids[:1, :, 0],
            logits=logits,
            previous_logits=previous[:1] if sampler.wants_logits and previous is not None else None,
        )
        window, done = type(sampler).choose(seen, self.mask_token_id)
        return window[0].copy(), bool(done[0])

    def _cut(self, directive: Passes) -> Passes:
        """Without the columns behind the window's first end-of-line token."""
        (first, stop), (start, _) = directive.query, directive.window
        ends = np.flatnonzero(np.isin(self.line.canvas[slice(*directive.window)], list(self.line.eos_token_ids)))
        if not len(ends):
            return directive
        behind = start + int(ends[0]) + 1
        return replace(directive, query=(first, min(stop, behind)), window=(start, behind))

    def _is_over(self, until: Until, window: Int64) -> bool:
        masks = window == self.mask_token_id
        if until == Until.LIMIT:
            return False
        if until == Until.SETTLED:
            ends = np.flatnonzero(np.isin(window, list(self.line.eos_token_ids)))
            masks = masks[: ends[0]] if len(ends) else masks
        return not masks.any()

    def _ask(self, query: tuple[int, int], window: tuple[int, int], sees: Sees, *, next_token: bool, keeps: bool, block_length: int) -> Ask:
        tokens = self.line.canvas[slice(*query)].tolist()
        width = window[1] - window[0]
        return Ask(tokens, query[0], window[0] - query[0], width, sees, next_token=next_token, keeps=keeps, block_length=block_length)

    def _ask_of(self, directive: Passes, number: int, previous: Float32 | None) -> Ask:
        ask = self._ask(
            directive.query,
            directive.window,
            directive.sees,
            next_token=directive.next_token,
            keeps=bool(directive.keep),
            block_length=directive.block_length,
        )
        sampler = None if directive.next_token else directive.rule.sampler
        ask.rule, ask.number = directive.rule, directive.first_step + number
        ask.shift, ask.guided, ask.causal_head = directive.shift, directive.guided, directive.causal_head
        ask.wants_top = sampler is not None and self.line.sampling.temperature > 0
        ask.wants_confidence = directive.wants_confidence or sampler is not None
        ask.wants_logits = directive.wants_logits or directive.self_conditions or (sampler is not None and sampler.wants_logits)
        ask.encode = directive.encode
        if directive.self_conditions and previous is not None:
            ask.conditioning = previous * np.float32(directive.rule.scale(ask.number - 1))
        return ask

    def step(self, ask: Ask) -> StepResult:
        """One pass on the context as it is."""
        return self.engine.step(step_batch(self.engine.manifest, self.line, self.context, ask))

    def keep(self, result: StepResult, first_column: int, spans: tuple[tuple[int, int], ...]) -> None:
        """Adds columns of the pass to the context; `first_column` is that of its first token."""
        if not spans:
            return
        assert result.present is not None  # every pass with something to keep asks for it
        alone = slice(1)  # a guided row's twin comes second
        kept = [result.present.part(alone, slice(start - first_column, stop - first_column)) for start, stop in spans]
        self.context = KeyValues.joined([self.context, *kept])
