"""The questions: for each test case the inputs, from a handful of numbers and one change that makes the case what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dlm_kernels.unmask import UnmaskInputs

from .half_floats import LOGITS_TYPES, LogitsType, rounded
from .numbers import Numbers, cycled

MASK = 5
OFF = 2.0  # a threshold that nothing reaches
DROPPED = np.float32(-1e30)  # what dlm::ShapeLogits makes of a token that a filter drops
SEEDS = [3, -1, 2**63 - 1, -(2**63), 2**31 - 1, -(2**40) - 7, 2**32 + 1]

Change = Callable[[UnmaskInputs], UnmaskInputs]


@dataclass(frozen=True)
class Recipe:
    """One case by name. `change` is applied to inputs in which every row asks for something else."""

    name: str
    rows: int = 3
    window: int = 5
    vocab: int = 33
    logits_type: LogitsType = "fp32"
    top_k: int = 4
    change: Change = lambda inputs: inputs

    def inputs(self, seed: int) -> UnmaskInputs:
        inputs = self.change(mixed_inputs(Numbers(seed), self.rows, self.window, self.vocab))
        return replace(inputs, logits=rounded(inputs.logits, self.logits_type))


def mixed_inputs(numbers: Numbers, rows: int, window: int, vocab: int) -> UnmaskInputs:
    """Rows that take turns through the measures, temperatures, thresholds, factors, quotas and kinds of seed."""
    shape = (rows, window)
    table = np.where(numbers.choose(0.3, 3, vocab), np.float32(-np.inf), np.float32(0))
    table[0] = 0
    table[2] = np.where(table[2] < 0, table[2], numbers.uniform(vocab) * np.float32(4) - np.float32(2))  # a bias that is not a ban
    table[:, 0] = 0
    return UnmaskInputs(
        logits=numbers.logits(*shape, vocab),
        tokens=np.where(numbers.choose(0.75, *shape), MASK, MASK + 1),
        live=numbers.choose(0.9, *shape),
        positions=numbers.integers(0, 100_000, *shape),
        allow_rows=numbers.integers(0, 3, *shape),
        allow_table=table,
        quota=cycled([1, 2, 1, 3, 0, window + 9, 1], rows, np.int64),
        threshold=cycled([0.9, OFF, OFF, 0.35, 0.6, OFF, OFF], rows, np.float32),
        factor=cycled([0, 0, 0, 0, 1.0, 0.8, 1.5], rows, np.float32),
        measure=cycled([0, 1, 2, 1, 0, 2, 0], rows, np.int64),
        temperature=cycled([0, 0.7, 0, 0, 1.0, 0, 0.25], rows, np.float32),
        rank_temperature=cycled([0, 0, 0, 0.5, 0, 0.3, 0], rows, np.float32),
        seed=cycled(SEEDS, rows, np.int64),
        step=numbers.integers(0, 64, rows),
    )


def all_masked(inputs: UnmaskInputs) -> UnmaskInputs:
    return replace(inputs, tokens=np.full_like(inputs.tokens, MASK), live=np.ones_like(inputs.live))


def none_masked(inputs: UnmaskInputs) -> UnmaskInputs:
    return replace(inputs, tokens=np.full_like(inputs.tokens, MASK + 1))


def all_padding(inputs: UnmaskInputs) -> UnmaskInputs:
    return replace(inputs, live=np.zeros_like(inputs.live))


def token_ties(inputs: UnmaskInputs) -> UnmaskInputs:
    """Logits in steps of 4: many tokens share the best value."""
    return replace(inputs, logits=np.round(inputs.logits / 4) * np.float32(4))


def position_ties(inputs: UnmaskInputs) -> UnmaskInputs:
    """Every position of a row says the same, without temperature: the lower one is first."""
    logits = np.broadcast_to(inputs.logits[:, :1], inputs.logits.shape).copy()
    cold = np.zeros_like(inputs.temperature)
    return all_masked(replace(inputs, logits=logits, allow_rows=inputs.allow_rows * 0, temperature=cold, rank_temperature=cold))


def flat(inputs: UnmaskInputs) -> UnmaskInputs:
    """All logits 0 and nothing banned; both kinds of tie at once."""
    return position_ties(replace(inputs, logits=np.zeros_like(inputs.logits)))


def all_banned(inputs: UnmaskInputs) -> UnmaskInputs:
    """Row 1 of the table bans everything, and a third of the positions obey it."""
    table = inputs.allow_table.copy()
    table[1] = -np.inf
    return all_masked(replace(inputs, allow_table=table))


def few_allowed(inputs: UnmaskInputs) -> UnmaskInputs:
    """Fewer tokens allowed than top_k reports: two in row 1, one in row 2 (certain), none banned in row 0."""
    table = np.full_like(inputs.allow_table, -np.inf)
    table[0], table[1, [7, 20]], table[2, 17] = 0, 0, 0
    one_certain = np.where(np.arange(inputs.tokens.shape[1]) == 3, 2, inputs.allow_rows.clip(0, 1))
    return replace(inputs, allow_table=table, allow_rows=one_certain, factor=inputs.factor * 0)


def dropped(inputs: UnmaskInputs) -> UnmaskInputs:
    """Logits that a filter before the op has set to -1e30: every third token, and all of the second position."""
    logits, allow_rows = inputs.logits.copy(), inputs.allow_rows.copy()
    logits[..., ::3], logits[:, 1] = DROPPED, DROPPED
    allow_rows[:, 1] = 0
    return replace(inputs, logits=logits, allow_rows=allow_rows)


def infinite_logits(inputs: UnmaskInputs) -> UnmaskInputs:
    """The same with -inf, which the specification does not promise to take and the kernels do."""
    lowered = dropped(inputs)
    return replace(lowered, logits=np.where(lowered.logits == DROPPED, np.float32(-np.inf), lowered.logits))


def large_logits(inputs: UnmaskInputs) -> UnmaskInputs:
    """Far from 0, where exp would overflow or vanish without the running maximum."""
    shift = np.resize(np.array([100, -110, 60], np.float32), inputs.logits.shape[:2])
    return replace(inputs, logits=inputs.logits + shift[..., None])


def factors(inputs: UnmaskInputs) -> UnmaskInputs:
    """Only the factor rule, without a quota; with the rank perturbed in one row."""
    rows = len(inputs.quota)
    return all_masked(
        replace(
            inputs,
            factor=cycled([0.5, 1.0, 1.9, 3.0, 0.0, 1.2], rows, np.float32),
            quota=inputs.quota * 0,
            threshold=np.full(rows, OFF, np.float32),
            measure=cycled([0, 1, 0, 0, 0, 1], rows, np.int64),
            rank_temperature=cycled([0, 0, 0, 0, 0, 0.2], rows, np.float32),
        )
    )


def shuffled_ranks(inputs: UnmaskInputs) -> UnmaskInputs:
    """Every row orders its positions by noise, and by the confidence of a warm draw."""
    rows = len(inputs.quota)
    spread = cycled([0.1, 1.0, 10.0], rows, np.float32)
    return all_masked(replace(inputs, rank_temperature=spread, temperature=spread[::-1].copy(), quota=cycled([1, 3, 5], rows, np.int64)))


SMALL = (
    *(Recipe(f"mixed-33-{kind}", rows=7, top_k=8, logits_type=kind) for kind in LOGITS_TYPES),
    *(Recipe(f"mixed-257-{kind}", rows=6, vocab=257, top_k=8, logits_type=kind) for kind in LOGITS_TYPES),
    Recipe("all-masked", change=all_masked),
    Recipe("none-masked", change=none_masked),
    Recipe("all-padding", change=all_padding),
    Recipe("token-ties", change=token_ties),
    Recipe("token-ties-bf16", logits_type="bf16", change=token_ties),
    Recipe("position-ties", change=position_ties),
    Recipe("flat", change=flat),
    Recipe("all-banned", change=all_banned),
    Recipe("few-allowed", change=few_allowed),
    Recipe("dropped-logits", change=dropped),
    Recipe("large-logits", change=large_logits),
    Recipe("factors", rows=6, window=7, change=factors),
    Recipe("shuffled-ranks", window=7, change=shuffled_ranks),
    Recipe("shuffled-ranks-bf16", logits_type="bf16", change=shuffled_ranks),
    Recipe("one-row", rows=1, window=1),
    Recipe("one-token", rows=2, window=3, vocab=1, top_k=1, change=all_banned),
    Recipe("two-tokens", rows=7, window=5, vocab=2, top_k=2),
    Recipe("top-1", top_k=1),
    Recipe("top-5-of-6", vocab=6, top_k=5, logits_type="fp16"),
    Recipe("wide-window", rows=1, window=45, vocab=9, top_k=3),
)
LARGE = tuple(
    Recipe(f"vocabulary-{vocab}-{kind}", rows=2, window=2, vocab=vocab, top_k=8, logits_type=kind)
    for vocab in (50_257, 126_464, 151_936)
    for kind in LOGITS_TYPES
)
BEYOND_THE_SPECIFICATION = tuple(
    Recipe(f"infinite-logits-{kind}", window=2, logits_type=kind, change=infinite_logits) for kind in LOGITS_TYPES
)
