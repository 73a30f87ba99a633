"""Samplers that run beside the step graph, against plain ones written from their published code: one row, one position at a time."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from dlm_kernels.unmask.draws import gumbel_noise, uniform
from dlm_runtime.bundle import Bundle, Manifest
from dlm_runtime.engines import Engine, OnnxEngine
from dlm_runtime.policies import Line, Passes, Policy, Prefill, Sampling
from dlm_runtime.policies.choose import loop_for
from dlm_runtime.policies.credit import SLOTS, Credit
from dlm_runtime.policies.dilated import Dilated
from dlm_runtime.policies.hierarchy import Hierarchy
from dlm_runtime.policies.klass import Klass
from dlm_runtime.policies.passes import Sees
from dlm_runtime.policies.plain import PlainRow, run_line
from dlm_runtime.policies.remasking import Remasking
from dlm_runtime.policies.sampler import Sampler, SamplerStep
from dlm_runtime.policies.with_sampler import WithSampler
from dlm_runtime.scheduler.together import write_together

NAMES = ("hierarchy", "credit", "klass", "dus", "remdm")
MASK = 1
NEVER = -math.inf


class Plain(Protocol):
    """A published sampler for one row and one block: told the logits of every position, it fills the block in."""

    def step(self, number: int, logits: np.ndarray, block: list[int], positions: Sequence[int]) -> bool:
        """Pass `number` from 0, logits [W, V] with -inf for tokens that are banned. Writes `block`. Whether it has had enough."""
        ...


def softmax(logits: np.ndarray, temperature: float = 1.0) -> list[float]:
    highest = max(logits)
    weights = [math.exp((one - highest) / temperature) for one in logits]
    return [weight / sum(weights) for weight in weights]


def likeliest(logits: np.ndarray) -> tuple[int, float]:
    odds = softmax(logits)
    token_id = max(range(len(odds)), key=lambda one: odds[one])
    return token_id, odds[token_id]


def divergence(odds: list[float], before: list[float]) -> float:
    """As KLASS computes it."""
    return sum(p * (math.log(p + 1e-12) - math.log(q + 1e-12)) for p, q in zip(odds, before, strict=True))


class PlainHierarchy:
    """dInfer's `HierarchyDecoder.get_transfer_index`."""

    def __init__(self, threshold: float, low_threshold: float, mask: int = MASK) -> None:
        self.threshold, self.low, self.mask = threshold, low_threshold, mask

    def step(self, number: int, logits: np.ndarray, block: list[int], positions: Sequence[int]) -> bool:
        guesses = [likeliest(one) for one in logits]
        masked = [i for i, token_id in enumerate(block) if token_id == self.mask]
        runs: list[list[int]] = []
        for i in masked:
            if i - 1 in masked:
                runs[-1].append(i)
            else:
                runs.append([i])
        taken = {i for i in masked if guesses[i][1] > self.threshold}
        for run in runs:
            best = max(guesses[i][1] for i in run)
            taken |= {i for i in run if guesses[i][1] == best and best > self.low}
        if masked:
            taken.add(max(masked, key=lambda i: (guesses[i][1], -i)))
        for i in taken:
            block[i] = guesses[i][0]
        return False


class PlainCredit:
    """dInfer's `_apply_credit_fusion` with its whole table, and `get_transfer_index_threshold`."""

    def __init__(
        self, threshold: float, alpha: float, boost: float, decay: float, temperature: float = 0.0, seed: int = 0, mask: int = MASK
    ) -> None:
        self.threshold, self.alpha, self.boost, self.decay, self.mask = threshold, alpha, boost, decay, mask
        self.temperature, self.seed = temperature, seed
        self.table: list[dict[int, float]] = []

    def step(self, number: int, logits: np.ndarray, block: list[int], positions: Sequence[int]) -> bool:
        self.table = self.table or [{} for _ in block]
        guesses: dict[int, tuple[int, float]] = {}
        for i, token_id in enumerate(block):
            self.table[i] = {known: value * self.decay for known, value in self.table[i].items()}
            if token_id != self.mask:
                continue
            leader, probability = likeliest(logits[i])
            self.table[i][leader] = self.table[i].get(leader, 0.0) + probability**self.boost
            fused = [one + self.alpha * math.log(self.table[i].get(v, 0.0) + 1) for v, one in enumerate(logits[i])]
            place = (np.array([self.seed]), np.array([number + 1]), np.array([[positions[i]]]))
            noise = gumbel_noise(*place, len(fused))[0, 0] if self.temperature else np.zeros(len(fused))
            scores = [one + self.temperature * noise[v] for v, one in enumerate(fused)]
            drawn = max(range(len(scores)), key=lambda v: scores[v])
            guesses[i] = (drawn, softmax(np.array(fused))[drawn])
        bar = min(max((sure for _, sure in guesses.values()), default=0.0) - 1e-5, self.threshold)
        for i, (token_id, sure) in guesses.items():
            if sure >= bar:
                block[i] = token_id
        return False


class PlainKlass:
    """KLASS's `stable_confident_decode`, its history beginning with the block."""

    def __init__(self, confidence: float, divergence: float, history: int, quota: int = 1, mask: int = MASK) -> None:
        self.confidence, self.divergence, self.history, self.quota, self.mask = confidence, divergence, history, quota, mask
        self.before: list[list[float]] = []
        self.changes: list[list[float]] = []

    def step(self, number: int, logits: np.ndarray, block: list[int], positions: Sequence[int], raw: np.ndarray | None = None) -> bool:
        odds = [softmax(one) for one in (logits if raw is None else raw)]
        guesses = [likeliest(one) for one in logits]
        if self.before:
            self.changes.append([divergence(*pair) for pair in zip(odds, self.before, strict=True)])
        self.before = odds
        latest = self.changes[-self.history :]
        masked = [i for i, token_id in enumerate(block) if token_id == self.mask]
        ready = [
            i
            for i in masked
            if guesses[i][1] > self.confidence and len(latest) == self.history and all(change[i] < self.divergence for change in latest)
        ]
        if not ready:
            ready = sorted(masked, key=lambda i: (-guesses[i][1], i))[: self.quota]
        for i in ready:
            block[i] = guesses[i][0]
        return False


class PlainDilated:
    """DUS's `dilated_unmask_levels` and `merge_last_level`; positions below the least confidence wait for the next level."""

    def __init__(self, base: int, least: float, mask: int = MASK) -> None:
        self.base, self.least, self.mask = base, least, mask

    def levels(self, size: int) -> list[list[int]]:
        levels: list[list[int]] = []
        stride = size // self.base
        while stride >= 1:
            levels.append([i for i in range(0, size, stride) if not any(i in level for level in levels)])
            stride //= self.base
        if rest := [i for i in range(size) if not any(i in level for level in levels)]:
            levels.append(rest)
        if len(levels) >= 2 and len(levels[-1]) < len(levels[-2]):
            last = levels.pop()
            levels[-1] += last
        return levels

    def step(self, number: int, logits: np.ndarray, block: list[int], positions: Sequence[int]) -> bool:
        levels = self.levels(len(block))
        for i in [one for level in levels[: number + 1] for one in level]:
            token_id, sure = likeliest(logits[i])
            if block[i] == self.mask and (number >= len(levels) - 1 or sure >= self.least):
                block[i] = token_id
        return False


class PlainRemasking:
    """ReMDM's `remdm-cap` step on the linear schedule."""

    def __init__(self, vocab_size: int, eta: float, steps: int, seed: int, mask: int = MASK) -> None:
        self.vocab_size, self.eta, self.steps, self.seed, self.mask = vocab_size, eta, steps, seed, mask

    def step(self, number: int, logits: np.ndarray, block: list[int], positions: Sequence[int]) -> bool:
        total = self.steps or len(block)
        alpha_t, alpha_s = number / total, (number + 1) / total
        sigma = min(self.eta, (1 - alpha_s) / alpha_t) if alpha_t > 0 else self.eta
        fills = (alpha_s - (1 - sigma) * alpha_t) / (1 - alpha_t)
        for i, token_id in enumerate(block):
            place = (np.array([self.seed]), np.array([number + 1]), np.array([[positions[i]]]))
            chance = float(uniform(*place, 1, self.vocab_size + 2)[0, 0, 0])
            if token_id == self.mask and (chance < fills or number == total - 1):
                block[i] = likeliest(logits[i])[0]
            elif token_id != self.mask and chance < sigma:
                block[i] = self.mask
        return number == total - 1


KINDS: dict[str, tuple[list[Sampler], Callable[[Any, int], Plain]]] = {
    "hierarchy": (
        [Hierarchy(), Hierarchy(0.7, 0.2), Hierarchy(1.0, 0.0)],
        lambda one, seed: PlainHierarchy(one.threshold, one.low_threshold),
    ),
    "credit": (
        [Credit(), Credit(0.6), Credit(0.8, 2.0, 0.5, 0.9), Credit(0.5, temperature=0.7), Credit(0.9, 1.5, temperature=1.0)],
        lambda one, seed: PlainCredit(one.threshold, one.alpha, one.boost, one.decay, one.temperature, seed),
    ),
    "klass": (
        [Klass(), Klass(0.3, 0.1, 1), Klass(0.4, 0.05, 2), Klass(0.2, 0.2, 3)],
        lambda one, seed: PlainKlass(one.confidence, one.divergence, one.history, quota=2),
    ),
    "dus": ([Dilated(), Dilated(3), Dilated(2, 0.5)], lambda one, seed: PlainDilated(one.base, one.least_confidence)),
    "remdm": (
        [Remasking(9), Remasking(9, 0.3), Remasking(9, 1.0), Remasking(9, 0.2, 7)],
        lambda one, seed: PlainRemasking(9, one.eta, one.steps, seed),
    ),
}
WIDTHS = (1, 2, 5, 8, 11, 16)
VOCAB = 9


def logits_of_passes(rng: np.random.Generator, rows: int, width: int, passes: int) -> np.ndarray:
    """Logits that wander less and less, so that some positions become sure and steady. The mask token is never likely."""
    steps = rng.normal(size=(passes, rows, width, VOCAB)) * 0.5 ** np.minimum(np.arange(passes), 6)[:, None, None, None]
    logits = np.cumsum(steps * rng.choice([0.3, 3.0], size=(rows, width, 1)), axis=0).astype(np.float32)
    logits[..., MASK] = -30
    return logits


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(4))
def test_rows_of_any_width_together_equal_the_published_rule_alone(name: str, seed: int) -> None:
    samplers, plain_of = KINDS[name]
    rng = np.random.default_rng(seed)
    kinds = [samplers[int(i)] for i in rng.integers(len(samplers), size=24)]
    size = np.array([rng.choice(WIDTHS) for _ in kinds])
    rows, width, passes = len(kinds), int(size.max()), 20
    logits = logits_of_passes(rng, rows, width, passes)
    inside = np.arange(width) < size[:, None]
    tokens = np.where(inside, MASK, 7)
    if name in ("hierarchy", "credit"):  # the others count from a block of masks
        tokens[inside & (rng.random((rows, width)) < 0.3)] = 3
    blocks = [tokens[row, :stop].tolist() for row, stop in enumerate(size)]
    plains = [plain_of(kind, 100 + row) for row, kind in enumerate(kinds)]
    memory = np.zeros((rows, width, kinds[0].memory_width), np.float32)
    over = np.zeros(rows, np.bool_)
    positions = 40 + np.arange(rows)[:, None] * 3 + np.arange(width)
    previous = np.zeros_like(logits[0])
    for number in range(passes):
        seen = SamplerStep(
            parameters=np.array([kind.parameters for kind in kinds], np.float32),
            tokens=tokens.copy(),
            masked=(tokens == MASK) & inside,
            inside=inside,
            quota=np.full(rows, 2),
            step=np.full(rows, number),
            seed=100 + np.arange(rows),
            positions=positions,
            memory=memory,
            logits=logits[number],
            previous_logits=previous,
            **measured(kinds, logits[number], number, positions),
        )
        tokens, done = type(kinds[0]).choose(seen, MASK)
        previous = logits[number]
        for row, plain in enumerate(plains):
            if over[row]:
                continue
            enough = plain.step(number, logits[number, row, : size[row]], blocks[row], positions[row].tolist())
            assert (tokens[row, : size[row]].tolist(), bool(done[row])) == (blocks[row], enough), (row, number, kinds[row])
            over[row] = enough or (MASK not in blocks[row] and name != "remdm")
        assert (tokens[~inside] == 7).all()
    assert over.all()


def measured(kinds: list[Any], logits: np.ndarray, number: int, positions: np.ndarray) -> dict[str, np.ndarray]:
    """What the step graph says of logits [n, W, V]."""
    temperature = np.array([getattr(kind, "temperature", 0.0) for kind in kinds], np.float32)
    noise = gumbel_noise(100 + np.arange(len(kinds)), np.full(len(kinds), number + 1), positions, VOCAB)
    odds = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum(-1, keepdims=True)
    sampled = (logits + temperature[:, None, None] * noise).argmax(-1)
    return {
        "sampled": sampled,
        "likeliest": logits.argmax(-1),
        "confidence": np.take_along_axis(odds, sampled[..., None], -1)[..., 0].astype(np.float32),
        "entropy": -(odds * np.log(odds)).sum(-1).astype(np.float32),
    }


@pytest.mark.parametrize("size", range(1, 70))
@pytest.mark.parametrize("base", [2, 3, 4])
def test_dilated_groups_cover_a_block_in_logarithmically_many_passes(size: int, base: int) -> None:
    levels = PlainDilated(base, 0.0).levels(size)
    assert sorted(i for level in levels for i in level) == list(range(size))
    assert len(levels) <= 1 + math.ceil(math.log(size, base))


def test_a_ninth_token_displaces_the_credit_of_the_least() -> None:
    memory = np.zeros((1, 1, 2 * SLOTS), np.float32)
    for number in range(SLOTS + 1):
        logits = np.zeros((1, 1, 12), np.float32)
        logits[0, 0, number] = 1.0
        sure = np.array([[math.e / (math.e + 11)]], np.float32)
        whole = {"parameters": np.array([Credit().parameters], np.float32), "tokens": np.array([[99]]), "masked": np.ones((1, 1), np.bool_)}
        drawn = {"sampled": np.array([[number]]), "likeliest": np.array([[number]]), "confidence": sure, "entropy": sure, "logits": logits}
        rest = {name: np.zeros(1, np.int64) for name in ("quota", "step", "seed")} | {"positions": np.zeros((1, 1), np.int64)}
        Credit.choose(SamplerStep(**whole, **drawn, **rest, inside=whole["masked"], memory=memory, previous_logits=None), 99)
    assert sorted(memory[0, 0, :SLOTS].tolist()) == list(range(2, SLOTS + 2))


def test_remasking_leaves_alone_what_stood_in_the_window_before(engines: Callable[[str], Engine]) -> None:
    """A prompt with a mask in it: the window begins there, and some of the prompt's words lie in it."""
    engine = engines("llada")
    mask = engine.manifest.mask_token_id or 0
    prompt = (5, mask, 7, 8, 9, 10, 11, 12)
    for seed in range(8):
        line, seen = Line(prompt, 24, (), Sampling(seed=seed)), set[int]()

        def watch(canvas: np.ndarray, seen: set[int] = seen) -> None:
            seen |= {i for i in range(len(canvas)) if i not in (1, *range(8, 32)) and canvas[i] == mask}

        run_line(engine, over(engine.manifest, Remasking(256, 0.9), True), line, watch)
        assert (seen, line.ending, mask in line.tokens) == (set(), "length", False)


WRONG: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    (Hierarchy, {"threshold": 1.5}, r"self.threshold=1.5 must be a probability"),
    (Hierarchy, {"low_threshold": -0.1}, r"self.low_threshold=-0.1 must be a probability"),
    (Credit, {"threshold": 2.0}, r"self.threshold=2.0 must be a probability"),
    (Credit, {"decay": 1.1}, r"self.decay=1.1 must be between 0 and 1"),
    (Credit, {"alpha": -1.0}, r"self.alpha=-1.0 must be at least 0"),
    (Klass, {"confidence": -1.0}, r"self.confidence=-1.0 must be a probability"),
    (Klass, {"divergence": -1.0}, r"self.divergence=-1.0 must be at least 0"),
    (Klass, {"history": 0}, r"self.history=0 must be at least 1"),
    (Dilated, {"base": 1}, r"self.base=1 must be at least 2"),
    (Dilated, {"least_confidence": 2.0}, r"self.least_confidence=2.0 must be a probability"),
    (Remasking, {"vocab_size": 9, "eta": 1.5}, r"self.eta=1.5 must be a probability"),
    (Remasking, {"vocab_size": 9, "steps": -1}, r"self.steps=-1 must be at least 1"),
    (WithSampler, {"loop": None, "sampler_for": None, "passes": -1}, r"self.passes=-1 must be at least 1"),
]


@pytest.mark.parametrize(("kind", "numbers", "said"), WRONG)
def test_numbers_that_make_no_sense_are_refused(kind: Callable[..., Any], numbers: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind(**numbers)


@pytest.fixture(scope="module")
def engines(members: Callable[[str], Any]) -> Iterator[Callable[[str], Engine]]:
    """One engine per golden checkpoint, made when needed."""
    made: dict[str, Engine] = {}

    def engine(name: str) -> Engine:
        return made.setdefault(name, OnnxEngine(Bundle.load(Path(members(name).bundle)), threads=1))

    yield engine
    for one in made.values():
        one.close()


SHARP: list[tuple[Sampler, bool]] = [  # with random weights nothing is sure of anything, so the thresholds are low; and whether it runs on
    (Hierarchy(0.04, 0.015), False),
    (Credit(0.05), False),
    (Klass(0.02, 0.05, 2), False),
    (Dilated(), False),
    (Dilated(3, 0.02), False),
    (Remasking(256, 0.1), True),
    (Remasking(256, 0.05, 12), True),
]


def plain_for(sampler: Any, mask: int, seed: int) -> Plain:
    match sampler:
        case Hierarchy():
            return PlainHierarchy(sampler.threshold, sampler.low_threshold, mask)
        case Credit():
            return PlainCredit(sampler.threshold, sampler.alpha, sampler.boost, sampler.decay, mask=mask)
        case Klass():
            return PlainKlass(sampler.confidence, sampler.divergence, sampler.history, mask=mask)
        case Dilated():
            return PlainDilated(sampler.base, sampler.least_confidence, mask)
    return PlainRemasking(sampler.vocab_size, sampler.eta, sampler.steps, seed, mask)


def fill_in(row: PlainRow, plain: Plain, query: tuple[int, int], window: tuple[int, int], settles: bool) -> int:
    """A block's passes, by nothing but the model's logits. How many there were."""
    line, manifest = row.line, row.engine.manifest
    banned = [manifest.mask_token_id or 0, *manifest.banned_token_ids]
    for number in range(99):
        outcome = row.run(Passes(query, window, Sees.WHOLE, wants_logits=True))
        assert outcome.logits is not None
        allowed = outcome.logits.astype(np.float64)
        allowed[:, banned] = NEVER
        block = line.canvas[slice(*window)].tolist()
        more = {"raw": outcome.logits} if isinstance(plain, PlainKlass) else {}
        enough = plain.step(number, allowed, block, list(range(*window)), **more)
        line.canvas[slice(*window)] = block
        end = next((i for i, token_id in enumerate(block) if token_id in line.eos_token_ids), len(block)) if settles else len(block)
        if enough if isinstance(plain, PlainRemasking) else manifest.mask_token_id not in block[:end]:
            return number + 1
    raise AssertionError("a block never ended")


def write_llada(engine: Engine, sampler: Sampler, line: Line) -> int:
    """LLaDA's blocks with a plain sampler; the number of passes."""
    manifest, row = engine.manifest, PlainRow(engine, line)
    line.lay(line.limit, row.mask_token_id)
    passes, length = 0, len(line.canvas)
    for start in range(line.prompt_length, length, manifest.block_length):
        block = (start, min(start + manifest.block_length, length))
        passes += fill_in(row, plain_for(sampler, row.mask_token_id, line.sampling.seed), (0, length), block, settles=False)
        if line.extend(line.canvas[slice(*block)].tolist()):
            return passes
    raise AssertionError("a line never ended")


def write_nemotron(engine: Engine, sampler: Sampler, line: Line) -> int:
    """Nemotron's blocks, each seeded by the last pass over what stands before it."""
    row, passes = PlainRow(engine, line), 1
    seed = row.run(Prefill(line.prompt_length)).sampled[-1]
    while True:
        start = len(line.canvas)
        line.lay(min(engine.manifest.block_length, line.room), row.mask_token_id)
        span = (start, len(line.canvas))
        line.canvas[start] = seed
        if span[1] - start > 1 and seed not in line.eos_token_ids:
            plain = plain_for(sampler, row.mask_token_id, line.sampling.seed)
            passes += fill_in(row, plain, span, (start + 1, span[1]), settles=True)
        if line.extend(line.canvas[start:].tolist()):
            return passes
        seed = row.run(Passes(span, (span[1] - 1, span[1]), Sees.CAUSAL, keep=(span,), next_token=True)).sampled[-1]
        passes += 1


def lines_of(manifest: Manifest, count: int, seed: int, temperatures: tuple[float, ...] = (0.0,)) -> list[Line]:
    """Random prompts and limits; a random word ends a line."""
    rng = random.Random(seed)
    words = [i for i in range(3, manifest.vocab_size) if i != manifest.mask_token_id]
    return [
        Line(
            tuple(rng.choices(words, k=rng.randrange(1, 24))),
            rng.randrange(1, 40),
            tuple(rng.sample(words, 1)),
            Sampling(rng.choice(temperatures), rng.randrange(2**40)),
        )
        for _ in range(count)
    ]


def over(manifest: Manifest, sampler: Sampler, runs_on: bool) -> Policy:
    own = loop_for(manifest, None).make(manifest, manifest.default_threshold)
    return WithSampler(own, lambda line: sampler, runs_on, isinstance(sampler, Credit), getattr(sampler, "steps", 0))


@pytest.mark.parametrize(("name", "write"), [("llada", write_llada), ("nemotron_labs_diffusion", write_nemotron)])
def test_a_model_is_decoded_as_the_published_samplers_would(engines: Callable[[str], Engine], name: str, write: Callable[..., int]) -> None:
    """Alone by both executors, and mixed with the others: the same tokens and as many passes."""
    engine = engines(name)
    kinds = [kind for kind in SHARP for _ in range(4)]
    expected = lines_of(engine.manifest, len(kinds), 5)
    passes = [write(engine, sampler, line) for (sampler, _), line in zip(kinds, expected, strict=True)]
    alone = lines_of(engine.manifest, len(kinds), 5)
    together = lines_of(engine.manifest, len(kinds), 5)
    pairs = [(over(engine.manifest, *kind), line) for kind, line in zip(kinds, together, strict=True)]
    written = write_together(engine, pairs)
    for number, kind in enumerate(kinds):
        forwards = run_line(engine, over(engine.manifest, *kind), alone[number]).forwards
        said = (kind[0], number)
        assert (alone[number].tokens, forwards) == (expected[number].tokens, passes[number]), said
        assert (together[number].tokens, written[number].forwards) == (expected[number].tokens, passes[number]), said
    assert min(line.limit for line in expected) < engine.manifest.block_length < max(len(line.tokens) for line in expected)
