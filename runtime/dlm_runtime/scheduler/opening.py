"""Where a directive begins: a row's numbers are written into its place of the slate, once for as many passes as it will take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlm_runtime.engines.base import THRESHOLD_OFF, Int64
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import NOTHING, Extend, Passes, Rule, Sees, Speculate
from dlm_runtime.policies.sampler import Sampler
from dlm_runtime.policies.sampling import RECENT_TOKENS
from dlm_runtime.scheduler.slate import FAR, LIMIT, NO_TOKEN, Phase, Slate
from dlm_runtime.scheduler.speculation import start_drafts


def seat(slate: Slate, place: int, line: Line, allow_row: int) -> None:
    """Writes what stays the same for all directives of a line. `allow_row` is its row of the allow-table."""
    sampling = line.sampling
    slate.seed[place] = sampling.seed
    slate.line_temperature[place] = sampling.temperature
    slate.top_k[place] = sampling.sample_top_k
    slate.top_p[place] = sampling.top_p
    slate.penalty[place] = sampling.repetition_penalty
    slate.allow[place] = allow_row
    _write(slate, "eos", place, sorted(line.eos_token_ids), -1)


def open_passes(slate: Slate, place: int, line: Line, asked: Passes, drafts: bool) -> None:
    """Begins `asked`. Raises ValueError where it does not fit the line."""
    first, stop = asked.query
    size = stop - first
    if stop > len(line.canvas):
        raise ValueError(f"{asked.query=} goes beyond the canvas of {len(line.canvas)} columns")
    echoes = asked.sees == Sees.ECHO
    fills = not (asked.next_token or echoes)
    slate.phase[place] = Phase.PASSES
    slate.position[place] = line.first_position + first
    slate.length[place] = 2 * size if echoes else size
    slate.echo[place] = size if echoes else 0
    slate.head[place] = asked.causal_head if asked.sees == Sees.WHOLE else FAR
    blocks = asked.block_length if asked.sees == Sees.BLOCKS else 0
    slate.block_length[place] = blocks
    slate.block_start[place] = (first - line.block_origin) % blocks if blocks else 0
    offset = size - first if echoes else -first
    slate.start[place], slate.stop[place] = asked.window[0] + offset, asked.window[1] + offset
    slate.shift[place] = asked.shift
    slate.until[place] = int(asked.until) if fills else LIMIT
    slate.limit[place] = asked.limit
    slate.passes[place] = slate.spent[place] = 0
    slate.first_step[place] = asked.first_step
    slate.next_token[place] = asked.next_token
    slate.cuts[place] = asked.cut_at_end and fills
    slate.encode[place] = asked.encode
    slate.conditions[place] = asked.self_conditions
    slate.guidance[place] = line.sampling.guidance if asked.guided else 0.0
    slate.wants_confidence[place] = asked.wants_confidence
    slate.shows[place] = drafts and fills
    slate.settled[place] = max(0, line.prompt_length + len(line.tokens) - first)
    slate.written_count[place] = 0
    _rule(slate, place, NOTHING if asked.next_token else asked.rule if fills else _measuring(asked.rule), line.sampling.temperature)
    _canvas(slate, place, line, asked)
    if drafts:
        slate.widened("guesses", 1)[place] = NO_TOKEN
    _keeps(slate, place, asked)
    sampler = asked.rule.sampler if fills else None
    _sampler(slate, place, sampler, asked, line.sampling.temperature)
    slate.narrow[place] = fills and not (sampler or asked.wants_confidence or asked.wants_logits or asked.self_conditions)
    slate.changed = True


def open_speculation(slate: Slate, place: int, line: Line, asked: Extend | Speculate, drafts: bool) -> None:
    """Begins `asked`. Autoregression is self-speculation in blocks of one token: nothing is drafted and one token verified."""
    speculates = isinstance(asked, Speculate)
    block = asked.block_length if speculates else 1
    slate.position[place] = line.first_position + line.prompt_length + len(line.tokens) - 1
    for name in ("echo", "block_length", "block_start", "shift", "spent", "first_step", "written_count", "guidance", "sampler"):
        getattr(slate, name)[place] = 0
    for name in ("cuts", "encode", "conditions", "wants_confidence", "wants_logits", "wants_top", "remembers", "outside"):
        getattr(slate, name)[place] = False
    slate.shows[place] = drafts
    slate.settled[place] = FAR
    _rule(slate, place, Rule(), 0.0)
    slate.draft_length[place] = block
    slate.draft_threshold[place] = asked.draft_threshold if speculates else 0.0
    slate.whole_drafts[place] = speculates and asked.as_published
    slate.overshoots[place] = line.overshoots
    slate.room[place] = line.room
    slate.widened("written", line.room + block)
    slate.widened("tokens", block)[place, 0] = asked.token_id
    keeps = slate.widened("keeps", block)
    keeps[place] = np.arange(keeps.shape[1])
    slate.widened("guesses", block)
    if line.sampling.repetition_penalty != 1.0:
        _recent(slate, place, line, 0, 0)
    start_drafts(slate, np.array([place]))


def has_masks_beside(line: Line, asked: Passes, mask_token_id: int) -> bool:
    """Whether a column of the query is masked and not in the window."""
    masked = line.canvas[slice(*asked.query)] == mask_token_id
    inside = masked[asked.window[0] - asked.query[0] : asked.window[1] - asked.query[0]]
    return bool(np.count_nonzero(masked) > np.count_nonzero(inside))


def _rule(slate: Slate, place: int, rule: Rule, temperature: float) -> None:
    tempered = rule.tempered and temperature > 0
    slate.measure[place] = int(rule.measure)
    slate.rank_temperature[place] = rule.alg_temperature
    slate.takes_last[place] = rule.takes_last
    slate.temperature[place] = 1.0 if tempered else temperature
    slate.threshold[place] = THRESHOLD_OFF if rule.sampler else rule.threshold
    slate.factor[place] = 0.0 if rule.sampler else rule.factor
    _write(slate, "quotas", place, rule.quotas, rule.quotas[-1])
    scales = [scale * (1.0 / temperature) for scale in rule.scales] if tempered else rule.scales
    _write(slate, "scales", place, scales, scales[-1])
    slate.scaled[place] = any(scale != 1.0 for scale in scales)


def _measuring(rule: Rule) -> Rule:
    """Fills in nothing and measures the same."""
    return Rule(quotas=(0,), measure=rule.measure, tempered=rule.tempered, scales=rule.scales)


def _canvas(slate: Slate, place: int, line: Line, asked: Passes) -> None:
    """The query's tokens, and what is known of the line beside it."""
    first, stop = asked.query
    size, length = stop - first, int(slate.length[place])
    canvas = line.canvas[first:stop]
    tokens = slate.widened("tokens", length)[place]
    tokens[:size], tokens[size:] = canvas, slate.mask_token_id if asked.sees == Sees.ECHO else 0
    slate.widened("guesses", length)
    fills = not asked.next_token and asked.sees != Sees.ECHO
    slate.outside[place] = fills and asked.window != asked.query and has_masks_beside(line, asked, slate.mask_token_id)
    if asked.guided:
        given = slate.widened("given", length)[place]
        given[:] = False
        given[:size] = (np.arange(first, stop) < line.prompt_length) & ~np.isin(canvas, list(line.sampling.guidance_keeps))
    if line.sampling.repetition_penalty != 1.0:
        _recent(slate, place, line, first, stop)


def _recent(slate: Slate, place: int, line: Line, first: int, stop: int) -> None:
    """The line's tokens outside of columns [first, stop)."""
    settled = line.prompt_length + len(line.tokens)
    for name, known, columns in (
        ("recent_before", line.tokens, line.canvas[settled : max(first, settled)]),
        ("recent_after", [], line.canvas[max(stop, settled) :]),
    ):
        tokens = [*known, *columns[columns != slate.mask_token_id].tolist()][-RECENT_TOKENS:]
        slate.widened(name, RECENT_TOKENS)
        _write(slate, name, place, tokens, -1)


def _keeps(slate: Slate, place: int, asked: Passes) -> None:
    """Query columns that will join the context."""
    first, stop = asked.query
    kept = 0
    for start, end in asked.keep:
        if not first <= start <= end <= stop:
            raise ValueError(f"{asked.keep=} must lie in {asked.query=}")
        slate.widened("keeps", kept + end - start)[place, kept : kept + end - start] = np.arange(start - first, end - first)
        kept += end - start
    slate.kept[place] = kept


def _sampler(slate: Slate, place: int, sampler: Sampler | None, asked: Passes, temperature: float) -> None:
    """The sampler's numbers, and a memory that starts as zeros."""
    slate.sampler[place] = 0 if sampler is None else slate.kind_number(type(sampler), len(sampler.parameters))
    slate.remembers[place] = remembers = asked.self_conditions or (sampler is not None and sampler.wants_logits)
    slate.wants_logits[place] = remembers or asked.wants_logits
    slate.wants_top[place] = sampler is not None and temperature > 0
    if sampler is None:
        return
    _write(slate, "parameters", place, sampler.parameters, 0)
    slate.wide("memory", asked.window[1] - asked.window[0], sampler.memory_width)[place] = 0
    if slate.previous is not None:
        slate.previous[place] = 0


def _write(slate: Slate, name: str, place: int, values: Sequence[float] | Int64, rest: float) -> None:
    count = len(values)
    if count == 1 and values[0] == rest:  # as most are
        getattr(slate, name)[place] = rest
        return
    row = slate.widened(name, max(count, 1))[place]
    row[:count], row[count:] = values, rest
