"""Published loops in which the rows of a batch wait for each other. Ours know of no neighbours, so what a recording says of its calls makes
a row wait as it did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Decoding, Directive, Outcome, Passes, Policy

from .parameters import UnsupportedRun, recorded_calls
from .prepared import Key, Log, RecordedRun


@dataclass(frozen=True)
class CutBlocks:
    """A policy whose blocks end when a neighbour's do: `limits[n]` passes at most for block n."""

    policy: Policy
    limits: tuple[int, ...]

    def decode(self, line: Line) -> Decoding:
        """As the policy."""
        return cut(self.policy.decode(line), self.limits)


def cut(decoding: Decoding, limits: Sequence[int]) -> Generator[Directive, Outcome, None]:
    """`decoding`, its denoising directives cut to the limits one after another."""
    left = iter(limits)
    try:
        directive = next(decoding)
        while True:
            if isinstance(directive, Passes) and not directive.next_token:
                directive = replace(directive, limit=min(directive.limit, next(left, directive.limit)))
            directive = decoding.send((yield directive))
    except StopIteration:
        return


@dataclass(frozen=True)
class WholePasses:
    """A policy with a block cache that runs whole blocks while a neighbour needs it: `whole[n]` times for the sub-block before column n."""

    policy: Policy
    whole: Counter[int]
    mask_token_id: int

    def decode(self, line: Line) -> Decoding:
        """As the policy."""
        return waiting(self.policy.decode(line), line, self.whole, self.mask_token_id)


def waiting(decoding: Decoding, line: Line, whole: Counter[int], mask_token_id: int) -> Generator[Directive, Outcome, None]:
    """`decoding`, with more passes over whole blocks before the ones over a sub-block."""
    last: Passes | None = None
    done = 0
    try:
        directive = next(decoding)
        while True:
            if is_whole(directive):
                done = done + 1 if last is not None and last.window[1] == directive.window[1] else 1
                last = directive
                outcome = yield directive
            elif last is not None and isinstance(directive, Passes) and not directive.next_token:
                outcome = Outcome(0, line.canvas[slice(*directive.window)])
                while done < whole[last.window[1]] and mask_token_id in line.canvas[slice(*last.window)]:
                    outcome, done = (yield last), done + 1
                if mask_token_id in line.canvas[slice(*last.window)]:
                    outcome = yield directive
            else:
                outcome = yield directive
            directive = decoding.send(outcome)
    except StopIteration:
        return


def is_whole(directive: Directive) -> TypeGuard[Passes]:
    """Whether it denoises a sub-block by running its block."""
    return isinstance(directive, Passes) and bool(directive.keep) and not directive.next_token


def denoising_calls(run: RecordedRun) -> tuple[int, ...]:
    """How many calls of every block stored nothing."""
    counts: list[int] = []
    calls = recorded_calls(run, "stores")
    if not calls[0]["stores"]:
        raise UnsupportedRun("calls", calls, "the first call of the published loop stores the prompt")
    for call in calls:
        if call["stores"]:
            counts.append(0)
        else:
            counts[-1] += 1
    return tuple(count for count in counts if count)


def whole_calls(run: RecordedRun, block_length: int, sub_block_length: int, mask_token_id: int) -> Counter[int]:
    """How many calls ran the whole block for the sub-block that ends at a column: that with the first mask of any row."""
    whole: Counter[int] = Counter()
    for call, rows in zip(recorded_calls(run, "stores", "replace_position"), run.trajectory or (), strict=False):
        if call["stores"] or call["replace_position"] is not None:
            continue
        start = len(rows[0]) - block_length
        first = min(row.index(mask_token_id, start) for row in rows if mask_token_id in row[start:])
        whole[start + ((first - start) // sub_block_length + 1) * sub_block_length] += 1
    return whole


def by_kind(directive: Directive, line: Line, number: int) -> Key:
    """Passes known by where their window ends and how many columns they run."""
    return (directive.window[1], directive.query[1] - directive.query[0], directive.next_token) if isinstance(directive, Passes) else None


def slowest_kinds(logs: Sequence[Log]) -> int:
    """Calls of a loop whose rows give the same kind of directive several times."""
    most: dict[Key, int] = {}
    for log in logs:
        own: Counter[Key] = Counter()
        for key, passes in log:
            own[key] += passes
        for key, passes in own.items():
            most[key] = max(most.get(key, 0), passes)
    return sum(most.values())
