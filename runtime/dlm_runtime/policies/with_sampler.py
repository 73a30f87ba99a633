"""A family's own loop with another sampler in it: the same blocks and passes over the same columns, another choice of what they fill in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import NOTHING, Decoding, Directive, Passes, Policy, Rule, Sees, Until
from dlm_runtime.policies.sampler import Sampler


@dataclass(frozen=True, slots=True)
class WithSampler:
    """`loop` with the sampler that `sampler_for` makes for a line.

    The loop's quotas, temperatures and scales stay. A directive lasts until its window is clean (or settled, where the loop says so), at
    most `passes` or, with 0, as many passes as the window has columns: samplers commit at least one position in each. `runs_on` leaves the
    end to the sampler, for those that mask positions again. `measures_plainly` measures confidence on the logits as they are, where the
    loop would divide them by the temperature.
    """

    loop: Policy
    sampler_for: Callable[[Line], Sampler]
    runs_on: bool = False
    measures_plainly: bool = False
    passes: int = 0

    def __post_init__(self) -> None:
        if self.passes < 0:
            raise ValueError(f"{self.passes=} must be at least 1, or 0 for as many as a window has columns")

    def decode(self, line: Line) -> Decoding:
        sampler, decoding = self.sampler_for(line), self.loop.decode(line)
        asked = next(decoding, None)
        while asked is not None:
            outcome = yield self._changed(asked, sampler)
            try:
                asked = decoding.send(outcome)
            except StopIteration:
                return

    def _changed(self, asked: Directive, sampler: Sampler) -> Directive:
        """The directive, with the sampler if it is one that fills something in."""
        if not isinstance(asked, Passes) or asked.next_token or asked.sees == Sees.ECHO or asked.rule == NOTHING:
            return asked
        tempered = asked.rule.tempered and not self.measures_plainly
        scales = (1.0,) if self.measures_plainly else asked.rule.scales
        rule = Rule(asked.rule.quotas, tempered=tempered, scales=scales, sampler=sampler)
        asked = replace(asked, rule=rule, cut_at_end=False)
        if asked.keep:  # a single pass that stores something as well; the block's others come in a directive of their own
            return asked
        until = Until.LIMIT if self.runs_on else max(asked.until, Until.CLEAN)
        return replace(asked, until=until, limit=self.passes or asked.window[1] - asked.window[0])
