"""The plain executor: what a directive makes of the canvas, the context and the step graph's inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from dlm_runtime.engines import FakeEngine, KeyValues, StepBatch, StepResult, fake_manifest
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Decoding, Directive, Extend, Outcome, Passes, Prefill, Rule, Sees, Speculate, Until
from dlm_runtime.policies.plain import Written, run_line
from dlm_runtime.policies.sampler import SamplerStep
from dlm_runtime.policies.sampling import Sampling

MASK, END = 1, 2
PROMPT = (10, 11, 12)


class LeftToRight:
    """An engine that draws 50 + position everywhere, commits the quota's number of masks from the left, and keeps every batch."""

    def __init__(self, draws: Callable[[int], int] = lambda position: 50 + position) -> None:
        self.manifest = fake_manifest()
        self.draws = draws
        self.batches: list[StepBatch] = []

    def step(self, batch: StepBatch) -> StepResult:
        self.batches.append(batch)
        rows, window = batch.allow_rows.shape
        places = batch.window_start[:, None] + np.arange(window)
        tokens = np.take_along_axis(batch.input_ids, places, 1)
        positions = np.take_along_axis(batch.position_ids, places, 1)
        drawn = np.vectorize(self.draws, otypes=[np.int64])(positions)
        masked = tokens == MASK
        commits = masked & (np.cumsum(masked, 1) <= batch.quota[:, None])
        present = KeyValues.zeros(self.manifest, rows, batch.input_ids.shape[1])
        present.arrays[0][0, 0, :, 0, :, 0] = batch.input_ids
        sure = np.where(masked, np.float32(0.5), np.float32(1.0))
        logits = np.zeros((rows, window, self.manifest.vocab_size), np.float32) + len(self.batches)
        return StepResult(
            np.where(commits, drawn, tokens),
            drawn,
            commits.sum(1),
            sure,
            1 - sure,
            present=present if batch.want_present else None,
            logits=logits if batch.want_logits else None,
        )

    def close(self) -> None:
        pass

    def context(self, number: int) -> list[int]:
        """Tokens whose keys a pass was given."""
        past = self.batches[number].past
        return past.arrays[0][0, 0, 0, 0, : int(self.batches[number].past_lengths[0]), 0].astype(int).tolist()


@dataclass(frozen=True)
class Script:
    """A policy that lays masks, gives directives and keeps the outcomes."""

    masks: int
    directives: tuple[Directive, ...]
    outcomes: list[Outcome]

    def decode(self, line: Line) -> Decoding:
        line.lay(self.masks, MASK)
        for directive in self.directives:
            outcome = yield directive
            self.outcomes.append(outcome)
        line.extend([END])


Run = Callable[..., tuple[LeftToRight, Line, list[Outcome], Written]]


@pytest.fixture
def run() -> Run:
    """Runs directives on a line of the prompt and some masks."""

    def running(*directives: Directive, masks: int = 4, engine: LeftToRight | None = None, **line: Any) -> Any:
        engine = engine or LeftToRight()
        written_line = Line(PROMPT, 20, (END,), **line)
        outcomes: list[Outcome] = []
        written = run_line(engine, Script(masks, directives, outcomes), written_line)
        return engine, written_line, outcomes, written

    return running


WHOLE = Passes((0, 7), (3, 7), Sees.WHOLE, Rule((1,)), Until.CLEAN, limit=9)


def test_passes_until_no_mask_is_left(run: Run) -> None:
    engine, line, (outcome,), written = run(WHOLE)
    assert line.canvas.tolist() == [*PROMPT, 53, 54, 55, 56]
    assert (outcome.passes, written.passes, written.forwards) == (4, [4], 4)
    assert [int(batch.step[0]) for batch in engine.batches] == [1, 2, 3, 4]
    assert all(not batch.want_present and not batch.want_confidence and not batch.want_logits for batch in engine.batches)


def test_the_last_quota_goes_on_and_later_directives_go_on_counting(run: Run) -> None:
    engine, _, (outcome,), _ = run(replace(WHOLE, rule=Rule((9, 0, 2, 1)), first_step=1, limit=8))
    assert [int(batch.quota[0]) for batch in engine.batches] == [0, 2, 1, 1]
    assert [int(batch.step[0]) for batch in engine.batches] == [2, 3, 4, 5]
    assert outcome.passes == 4


def test_a_limit_ends_passes_and_nothing_else_does(run: Run) -> None:
    _, line, (outcome,), _ = run(replace(WHOLE, limit=2))
    assert (outcome.passes, line.canvas.tolist()) == (2, [*PROMPT, 53, 54, MASK, MASK])
    _, line, (outcome,), _ = run(replace(WHOLE, until=Until.LIMIT, limit=6))
    assert (outcome.passes, line.canvas.tolist()) == (6, [*PROMPT, 53, 54, 55, 56])


def test_settled_before_the_first_end_of_line(run: Run) -> None:
    engine = LeftToRight(lambda position: END if position == 4 else 50)
    _, line, (outcome,), _ = run(replace(WHOLE, until=Until.SETTLED), engine=engine)
    assert (outcome.passes, line.canvas.tolist()) == (2, [*PROMPT, 50, END, MASK, MASK])


def test_columns_behind_the_end_are_cut(run: Run) -> None:
    engine = LeftToRight(lambda position: END if position == 4 else 50)
    directive = replace(WHOLE, until=Until.LIMIT, limit=4, cut_at_end=True)
    engine, line, _, _ = run(directive, engine=engine)
    assert [batch.input_ids.shape[1] for batch in engine.batches] == [7, 7, 5, 5]
    assert line.canvas.tolist() == [*PROMPT, 50, END, MASK, MASK]


@pytest.mark.parametrize(("takes_last", "passes"), [(True, 3), (False, 4)])
def test_a_single_mask_that_is_left_is_taken(run: Run, takes_last: bool, passes: int) -> None:
    _, line, (outcome,), _ = run(replace(WHOLE, rule=Rule((1,), takes_last=takes_last)))
    assert (outcome.passes, line.canvas.tolist()) == (passes, [*PROMPT, 53, 54, 55, 56])


def test_crop_keep_and_positions(run: Run) -> None:
    full = Passes((0, 7), (3, 4), Sees.WHOLE, Rule((1,)), crop=0, keep=((0, 3), (5, 7)))
    block = Passes((3, 5), (3, 5), Sees.WHOLE, Rule((1,)), keep=((4, 5),))
    shorter = Passes((3, 5), (3, 5), Sees.WHOLE, Rule((1,)), crop=2)
    engine, _, _, _ = run(full, block, shorter, block, first_position=5)
    assert engine.context(0) == []
    assert engine.context(1) == [*PROMPT, MASK, MASK]
    assert engine.batches[1].position_ids.tolist() == [[8, 9]]
    assert engine.context(2) == [*PROMPT[:2]]
    assert engine.context(3) == [*PROMPT[:2]], "a directive that keeps nothing adds nothing"


def test_prefill_keeps_everything_and_draws_a_next_token(run: Run) -> None:
    engine, _, outcomes, _ = run(Prefill(3), replace(WHOLE, query=(3, 7)))
    prefill = engine.batches[0]
    assert (prefill.block_ids.tolist(), prefill.window_start.tolist(), prefill.step.tolist()) == ([[0, 1, 2]], [2], [0])
    assert outcomes[0].sampled.tolist() == [52]
    assert engine.context(1) == list(PROMPT)


def test_who_sees_whom(run: Run) -> None:
    def block_ids(**changes: Any) -> list[int]:
        engine, _, _, _ = run(replace(WHOLE, limit=1, **changes), block_origin=-1)
        return engine.batches[0].block_ids[0].tolist()

    assert block_ids() == [0] * 7
    assert block_ids(causal_head=3) == [0, 1, 2, 3, 3, 3, 3]
    assert block_ids(sees=Sees.CAUSAL) == list(range(7))
    assert block_ids(sees=Sees.BLOCKS, block_length=3) == [0, 0, 1, 1, 1, 2, 2]
    assert block_ids(sees=Sees.ECHO) == [*range(7), -1, -2, -3, -4, -5, -6, -7]


def test_an_echo_speaks_from_its_masks_and_fills_nothing_in(run: Run) -> None:
    directive = Passes((3, 7), (4, 6), Sees.ECHO, keep=((3, 5),), wants_logits=True)
    engine, line, (outcome,), _ = run(directive)
    batch = engine.batches[0]
    assert (batch.window_start.tolist(), batch.input_ids.tolist()) == ([5], [[MASK] * 8])
    assert batch.position_ids.tolist() == [[3, 4, 5, 6, 3, 4, 5, 6]]
    assert outcome.sampled.tolist() == [54, 55]
    assert outcome.logits is not None
    assert outcome.logits.shape == (2, engine.manifest.vocab_size)
    assert line.canvas.tolist() == [*PROMPT, *[MASK] * 4]


def test_next_tokens_are_drawn_and_not_filled_in(run: Run) -> None:
    directive = Passes((0, 7), (2, 7), Sees.CAUSAL, Rule((3,), threshold=0.1, factor=1.0), next_token=True, wants_confidence=True)
    engine, line, (outcome,), _ = run(directive)
    batch = engine.batches[0]
    assert (int(batch.quota[0]), float(batch.threshold[0]), int(batch.step[0])) == (0, 2.0, 0)
    assert batch.factor is not None
    assert float(batch.factor[0]) == 0.0
    assert outcome.sampled.tolist() == [52, 53, 54, 55, 56]
    assert outcome.confidence is not None
    assert line.canvas.tolist() == [*PROMPT, *[MASK] * 4]


def test_a_guided_pass_runs_a_twin_without_the_prompt(run: Run) -> None:
    sampling = Sampling(guidance=1.5, guidance_keeps=(11,))
    engine, line, _, _ = run(replace(WHOLE, guided=True), sampling=sampling)
    batch = engine.batches[1]
    assert batch.input_ids.tolist() == [[*PROMPT, 53, MASK, MASK, MASK], [MASK, 11, MASK, 53, MASK, MASK, MASK]]
    assert batch.guidance is not None
    assert batch.guidance_rows is not None
    assert (batch.guidance.tolist(), batch.guidance_rows.tolist()) == ([1.5, 0.0], [1, 1])
    assert line.canvas.tolist() == [*PROMPT, 53, 54, 55, 56]


def test_what_a_line_asks_for_reaches_the_graph(run: Run) -> None:
    sampling = Sampling(temperature=0.5, seed=7, top_k=9, top_p=0.8, banned_token_ids=(4,), top_p_first=True)
    rule = Rule((1,), tempered=True, alg_temperature=0.25, scales=(3.0,))
    engine, _, _, _ = run(replace(WHOLE, rule=rule, shift=1), sampling=sampling)
    batch = engine.batches[0]
    arrays = {name: getattr(batch, name) for name in ("temperature", "scale", "rank_temperature", "sample_top_k", "sample_top_p", "shift")}
    values = {name: float(array[0]) for name, array in arrays.items()}
    expected = {"temperature": 1.0, "scale": 6.0, "rank_temperature": 0.25, "sample_top_k": -9.0, "sample_top_p": 0.8, "shift": 1.0}
    assert values == pytest.approx(expected)
    assert np.flatnonzero(np.isinf(batch.allow_table[0])).tolist() == [4]
    assert batch.seed.tolist() == [7]


def test_the_mask_is_banned_unless_a_line_says_what_is(run: Run) -> None:
    engine, _, _, _ = run(WHOLE)
    assert np.flatnonzero(np.isinf(engine.batches[0].allow_table[0])).tolist() == [MASK]


@dataclass(frozen=True)
class FromTheRight:
    """Fills in the rightmost mask and remembers how often it was asked; done after three."""

    token_id: int
    edits: ClassVar[bool] = False
    wants_logits: ClassVar[bool] = True
    memory_width: ClassVar[int] = 2

    @property
    def parameters(self) -> tuple[float, ...]:
        return (float(self.token_id),)

    @staticmethod
    def choose(step: SamplerStep, mask_token_id: int) -> tuple[Any, Any]:
        assert step.logits is not None
        assert step.previous_logits is not None
        assert float(step.logits[0, 0, 0] - step.previous_logits[0, 0, 0]) == 1.0
        tokens = step.tokens.copy()
        tokens[0, np.flatnonzero(step.masked[0])[-1]] = int(step.parameters[0, 0]) + int(step.memory[0, 0, 1])
        step.memory[0, 0, 1] += 1
        return tokens, np.array([step.memory[0, 0, 1] == 3])


def test_a_sampler_decides_instead_of_the_op(run: Run) -> None:
    engine, line, (outcome,), _ = run(replace(WHOLE, rule=Rule((1,), sampler=FromTheRight(70))))
    assert (outcome.passes, line.canvas.tolist()) == (3, [*PROMPT, MASK, 72, 71, 70])
    assert [int(batch.quota[0]) for batch in engine.batches] == [0, 0, 0]


class Autoregression:
    """A next token, and all that follow it, by `Extend` or by `Speculate`."""

    def __init__(self, speculates: bool) -> None:
        self.speculates = speculates

    def decode(self, line: Line) -> Decoding:
        outcome = yield Prefill(line.prompt_length)
        token_id = int(outcome.sampled[-1])
        if not line.extend([token_id]):
            outcome = yield Speculate(token_id, 6) if self.speculates else Extend(token_id)
            line.extend(outcome.tokens)


@pytest.mark.parametrize("limit", [1, 2, 7, 20])
def test_speculation_writes_what_autoregression_does(limit: int) -> None:
    lines: list[Line] = []
    for speculates in (False, True):
        line = Line(tuple(range(20, 29)), limit, (END,))
        written = run_line(FakeEngine(), Autoregression(speculates), line)
        assert written.passes[0] == 1
        lines.append(line)
    assert lines[0].tokens == lines[1].tokens
    assert lines[0].ending == lines[1].ending


def test_a_policy_has_to_end_its_line() -> None:
    class Forgetful:
        def decode(self, line: Line) -> Decoding:
            yield Prefill(line.prompt_length)

    with pytest.raises(RuntimeError, match="ended without ending its line"):
        run_line(LeftToRight(), Forgetful(), Line(PROMPT, 4, (END,)))
