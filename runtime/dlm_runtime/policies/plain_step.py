"""One pass of one row, laid out for the step graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlm_runtime.bundle import Manifest
from dlm_runtime.engines.base import THRESHOLD_OFF, Float32, Int64, StepBatch
from dlm_runtime.engines.key_values import KeyValues
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import NEXT_TOKEN_STEP, NOTHING, Rule, Sees
from dlm_runtime.policies.sampling import RECENT_TOKENS


@dataclass(slots=True)
class Ask:
    """A pass over `token_ids`, the first of which stands in column `first_column`. The window counts from that one.

    `number` is that of the pass, from 0, for draws and quotas; `recent` are tokens that the line holds beside its canvas and `tokens`;
    `greedy` draws at temperature 0 whatever the line's is.
    """

    token_ids: list[int]
    first_column: int
    window_start: int
    window_length: int
    sees: Sees = Sees.CAUSAL
    rule: Rule = NOTHING
    number: int = 0
    next_token: bool = False
    keeps: bool = False
    block_length: int = 1
    shift: int = 0
    guided: bool = False
    causal_head: int = 0
    greedy: bool = False
    recent: tuple[int, ...] = ()
    wants_confidence: bool = False
    wants_logits: bool = False
    wants_top: bool = False
    encode: bool = False
    conditioning: Float32 | None = None  # [1, L, V] what a network that conditions itself is fed


def step_batch(manifest: Manifest, line: Line, context: KeyValues, ask: Ask) -> StepBatch:
    """The pass as a batch of one row, or of two where it is guided: the second is the row's twin."""
    ids, columns = _columns(manifest, ask)
    rows = np.stack([ids, _twin(manifest, line, ids, columns)]) if ask.guided else ids[None]
    count, length = rows.shape
    past = context.repeated(count) if count > 1 else context
    rule = NOTHING if ask.next_token else ask.rule
    sampling = line.sampling
    temperature = 0.0 if ask.greedy else sampling.temperature
    tempered = rule.tempered and temperature > 0
    echo_offset = len(ask.token_ids) if ask.sees == Sees.ECHO else 0

    def ints(value: int) -> Int64:
        return np.full(count, value, np.int64)

    def floats(value: float) -> Float32:
        return np.full(count, value, np.float32)

    guidance = np.array([sampling.guidance, 0.0][:count], np.float32) if ask.guided else floats(0.0)
    return StepBatch(
        input_ids=np.ascontiguousarray(rows),
        position_ids=np.tile(line.first_position + columns, (count, 1)),
        past_lengths=ints(context.tokens),
        query_lengths=ints(length),
        block_ids=np.tile(_block_ids(line, ask, columns), (count, 1)),
        past=past,
        window_start=ints(echo_offset + ask.window_start),
        allow_rows=np.zeros((count, ask.window_length), np.int64),
        allow_table=_allow_table(manifest, sampling.banned_token_ids),
        quota=ints(0 if rule.sampler else rule.quota(ask.number)),
        threshold=floats(THRESHOLD_OFF if rule.sampler else rule.threshold),
        temperature=floats(1.0 if tempered else temperature),
        seed=ints(sampling.seed),
        step=ints(NEXT_TOKEN_STEP if ask.next_token else ask.number + 1),
        shift=ints(ask.shift),
        factor=floats(0.0 if rule.sampler else rule.factor),
        measure=ints(int(rule.measure)),
        rank_temperature=floats(rule.alg_temperature),
        scale=floats(rule.scale(ask.number) * (1.0 / temperature if tempered else 1.0)),
        sample_top_k=ints(sampling.sample_top_k),
        sample_top_p=floats(sampling.top_p),
        repetition_penalty=floats(sampling.repetition_penalty),
        recent_ids=np.tile(_recent(manifest, line, ask), (count, 1)),
        guidance=guidance,
        guidance_rows=ints(count - 1),
        want_present=ask.keeps,
        want_confidence=ask.wants_confidence,
        want_logits=ask.wants_logits,
        want_top=ask.wants_top,
        encode=np.full(count, ask.encode),
        self_conditioning=ask.conditioning,
        self_conditioned=None if ask.conditioning is None else np.ones(count, np.bool_),
    )


def _columns(manifest: Manifest, ask: Ask) -> tuple[Int64, Int64]:
    """Tokens of the pass and their columns; an echo's masks stand in the columns they speak for."""
    ids = np.array(ask.token_ids, np.int64)
    columns = ask.first_column + np.arange(len(ids), dtype=np.int64)
    if ask.sees != Sees.ECHO:
        return ids, columns
    return np.concatenate([ids, np.full_like(ids, manifest.mask_token_id)]), np.concatenate([columns, columns])


def _block_ids(line: Line, ask: Ask, columns: Int64) -> Int64:
    """Who sees whom, in the step graph's way: a token sees those whose id is not above its own; negative ids, see `Sees.ECHO`."""
    in_order = np.arange(len(ask.token_ids), dtype=np.int64)
    if ask.sees == Sees.CAUSAL:
        return in_order
    if ask.sees == Sees.WHOLE:
        return np.minimum(in_order, ask.causal_head)
    if ask.sees == Sees.ECHO:
        return np.concatenate([in_order, -1 - in_order])
    blocks = (columns - line.block_origin) // ask.block_length
    return blocks - blocks[0]


def _twin(manifest: Manifest, line: Line, ids: Int64, columns: Int64) -> Int64:
    """The row with its prompt masked."""
    given = (columns < line.prompt_length) & ~np.isin(ids, list(line.sampling.guidance_keeps))
    return np.where(given, np.int64(manifest.mask_token_id or 0), ids)


def _allow_table(manifest: Manifest, banned: tuple[int, ...] | None) -> Float32:
    table = np.zeros((1, manifest.vocab_size), np.float32)
    mask = () if manifest.mask_token_id is None else (manifest.mask_token_id,)
    table[0, list((*mask, *manifest.banned_token_ids) if banned is None else banned)] = -np.inf
    return table


def _recent(manifest: Manifest, line: Line, ask: Ask) -> Int64:
    """The latest tokens of the line as it stands, masks aside: settled, then new, then those of the canvas. The prompt is not punished."""
    if line.sampling.repetition_penalty == 1.0:
        return np.zeros(0, np.int64)
    known = [*line.tokens, *ask.recent]
    canvas = line.canvas[line.prompt_length + len(known) :]
    return np.array([*known, *canvas[canvas != manifest.mask_token_id].tolist()], np.int64)[-RECENT_TOKENS:]
