"""What every row of an arena is at, one array per number, so that a forward pass of many rows is a few operations on arrays.

Place i of every array is row i of the arena. The files beside this one read and write it: `opening` where a directive begins, `ask` and
`tell` around a forward pass, `speculation`, `deciders` and `recent` for what only some rows do, `closing` where a directive ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dlm_runtime.engines.base import Float32, Int64
from dlm_runtime.policies.passes import Until
from dlm_runtime.policies.sampler import Bools, Sampler
from dlm_runtime.scheduler.row import Row

if TYPE_CHECKING:
    from dlm_runtime.scheduler.ask import Frame

FAR = 2**40
"""More than any number of columns or passes."""
NO_TOKEN = -1
_FIRST_ROWS = 8


# NumPy compares an array with a plain number five times as fast as with a member of an enum.
LIMIT, CLEAN, SETTLED = int(Until.LIMIT), int(Until.CLEAN), int(Until.SETTLED)


class Phase:
    """What a row is in the middle of; plain numbers as well."""

    PASSES = 0
    DRAFT = 1  # of self-speculation
    VERIFY = 2  # of self-speculation; autoregression is verification of nothing drafted


_TURNS = slice(7)  # the first seven integers are what a row's turn to another phase of self-speculation changes
INTEGERS = (
    *("phase", "start", "passes", "kept", "head", "until", "limit"),
    *("context", "position", "length", "block_start", "block_length", "echo", "stop", "shift", "spent", "first_step", "settled", "seed"),
    *("measure", "top_k", "allow", "draft_length", "room", "written_count", "sampler"),
)
FLOATS = {  # and what is neutral
    **dict.fromkeys(["threshold", "factor", "temperature", "rank_temperature", "guidance", "draft_threshold", "line_temperature"], 0.0),
    **dict.fromkeys(["top_p", "penalty"], 1.0),
}
FLAGS = (
    *("next_token", "narrow"),
    *("outside", "takes_last", "cuts", "whole_drafts", "overshoots", "encode", "conditions", "scaled"),
    *("wants_confidence", "wants_logits", "wants_top", "remembers", "shows"),
)
_NUMBERS = (*INTEGERS, *FLOATS, *FLAGS)
_DRAFTING = np.array([[Phase.DRAFT, 0, 0, 0, 0, CLEAN, FAR]], np.int64).T  # everybody sees everybody, until no mask is left
_VERIFYING = np.array([[Phase.VERIFY, 0, 0, 0, FAR, LIMIT, 1]], np.int64).T  # one causal pass
_NEUTRAL = np.array([list(FLOATS.values())], np.float32).T
_COLUMNS: dict[str, tuple[DTypeLike, int]] = {
    "tokens": (np.int64, 0),  # of the query
    "guesses": (np.int64, -1),  # what was last drawn where
    "keeps": (np.int64, 0),  # query columns that join the context
    "given": (np.bool_, 0),  # masked in the twin
    "quotas": (np.int64, 0),  # per pass, the last for ever
    "scales": (np.float32, 1),  # per pass, the last for ever
    "eos": (np.int64, -1),
    "written": (np.int64, 0),  # new tokens of Extend and Speculate
    "recent_before": (np.int64, -1),  # the line's tokens before the query ...
    "recent_after": (np.int64, -1),  # ... and behind it
    "parameters": (np.float32, 0),  # of the sampler
}


class Slate:
    """Arrays of up to `capacity` rows, of which the first `len(rows)` are there. Columns are as wide as any row has needed.

    A row's `tokens` are columns 0 to `length` of its query; `start` and `stop` are the window within it. `block_ids` come of `block_start`,
    `block_length`, `head` and `echo` (see `ask`). `spent` counts the passes of a directive, `passes` those since it or its phase began.
    `memory` and `previous` (a sampler's memory, and raw logits of the pass before) count from the window's start, and are None until a row
    needs them. `changed` says that a number has changed that does not change from pass to pass.
    """

    context: Int64  # tokens in the context
    position: Int64  # of the query's first column
    length: Int64
    head: Int64
    block_start: Int64
    block_length: Int64  # 0 where blocks are single tokens
    echo: Int64  # columns that an echo repeats; 0 for none
    start: Int64
    stop: Int64
    shift: Int64
    until: Int64
    limit: Int64
    passes: Int64
    spent: Int64
    first_step: Int64
    kept: Int64  # how many of `keeps`
    settled: Int64  # query columns before this one are settled or the prompt; FAR for Extend and Speculate
    seed: Int64
    measure: Int64
    top_k: Int64
    allow: Int64
    phase: Int64
    draft_length: Int64
    room: Int64  # tokens the line may still have
    written_count: Int64
    sampler: Int64  # number of its kind in `kinds`, from 1; 0 for none
    threshold: Float32
    factor: Float32
    temperature: Float32
    rank_temperature: Float32
    top_p: Float32
    penalty: Float32
    guidance: Float32
    draft_threshold: Float32
    line_temperature: Float32
    narrow: Bools  # the window may shrink to the masks
    outside: Bools  # the query has masks beside the window
    next_token: Bools
    takes_last: Bools
    cuts: Bools
    whole_drafts: Bools
    overshoots: Bools
    encode: Bools
    conditions: Bools
    scaled: Bools  # some of `scales` is not 1
    wants_confidence: Bools
    wants_logits: Bools
    wants_top: Bools
    remembers: Bools  # logits of the pass before
    shows: Bools
    tokens: Int64
    guesses: Int64
    keeps: Int64
    given: Bools
    quotas: Int64
    scales: Float32
    eos: Int64
    written: Int64
    recent_before: Int64
    recent_after: Int64
    parameters: Float32

    def __init__(self, mask_token_id: int) -> None:
        self.mask_token_id = mask_token_id
        self.rows: list[Row] = []
        self.kinds: list[tuple[type[Sampler], int]] = []  # classes of samplers met so far, and how many parameters each has
        self.memory: Float32 | None = None  # [rows, W, M]
        self.previous: Float32 | None = None  # [rows, W, V]
        self.frame: Frame | None = None  # what `ask` has made of it
        self.changed = True
        self._make_numbers(0)
        for name, (dtype, _) in _COLUMNS.items():
            setattr(self, name, np.zeros((0, 1), dtype))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def capacity(self) -> int:
        """Rows there is room for."""
        return len(self.context)

    def join(self, row: Row, context_tokens: int) -> int:
        """Gives a row a place; nothing there is right yet but the length of its context."""
        place = len(self.rows)
        if place == self.capacity:
            self._widen_rows(max(_FIRST_ROWS, 2 * place))
        self.rows.append(row)
        self.context[place] = context_tokens
        self.changed = True
        return place

    def leave(self, place: int) -> None:
        """Takes a row out; the last one moves into its place."""
        last = len(self.rows) - 1
        if place != last:
            for numbers in (self._integers, self._floats, self._flags):
                numbers[:, place] = numbers[:, last]
            for name in (*_COLUMNS, "memory", "previous"):
                if (array := getattr(self, name)) is not None:
                    array[place] = array[last]
            self.rows[place] = self.rows[last]
        self.rows.pop()
        self.changed = True

    def move(self, place: int, other: Slate) -> None:
        """Copies the row at `place`, in the middle of what it does, to a new place of `other`, and takes it out here."""
        there = other.join(self.rows[place], int(self.context[place]))
        other._integers[:, there] = self._integers[:, place]
        other._floats[:, there] = self._floats[:, place]
        other._flags[:, there] = self._flags[:, place]
        for name, (_, fill) in _COLUMNS.items():
            mine = getattr(self, name)[place]
            theirs = other.widened(name, len(mine))[there]
            theirs[: len(mine)], theirs[len(mine) :] = mine, fill
        # The last quota and scale hold for ever, in a wider array too.
        other.quotas[there, self.quotas.shape[1] :] = self.quotas[place, -1]
        other.scales[there, self.scales.shape[1] :] = self.scales[place, -1]
        if self.sampler[place]:
            other.sampler[there] = other.kind_number(*self.kinds[self.sampler[place] - 1])
        for name in ("memory", "previous"):
            if (array := getattr(self, name)) is not None:
                other.wide(name, *array.shape[1:])[there, : array.shape[1], : array.shape[2]] = array[place]
        self.leave(place)

    def kind_number(self, sampler: type[Sampler], parameters: int) -> int:
        """What `sampler` holds for rows with this kind."""
        if (sampler, parameters) not in self.kinds:
            self.kinds.append((sampler, parameters))
        return 1 + self.kinds.index((sampler, parameters))

    def widened(self, name: str, columns: int) -> NDArray[Any]:
        """The array of that name, at least so many columns wide."""
        array: NDArray[Any] = getattr(self, name)
        have = array.shape[1]
        if columns > have:
            fill = _COLUMNS[name][1]
            wider = np.full((self.capacity, max(columns, min(2 * have, columns + 16))), fill, array.dtype)
            wider[:, :have] = array
            if name in ("quotas", "scales"):
                wider[:, have:] = array[:, -1:]
            setattr(self, name, wider)
            return wider
        return array

    def wide(self, name: str, columns: int, width: int) -> Float32:
        """`memory` or `previous`, at least [rows, columns, width]."""
        array: Float32 | None = getattr(self, name)
        have = (0, 0, 0) if array is None else array.shape
        if array is None or have[1] < columns or have[2] < width:
            wider = np.zeros((self.capacity, max(columns, have[1]), max(width, have[2])), np.float32)
            if array is not None:
                wider[:, : have[1], : have[2]] = array
            setattr(self, name, wider)
            return wider
        return array

    def turn(self, rows: Int64, phase: int) -> None:
        """Rows [m] begin to draft or to verify, in a window that is the whole query; for its length and its numbers see `speculation`."""
        drafts = phase == Phase.DRAFT
        self._integers[_TURNS, rows] = _DRAFTING if drafts else _VERIFYING
        self.next_token[rows], self.narrow[rows] = not drafts, drafts
        self.changed = True

    def ends(self, rows: Int64 | slice, tokens: Int64) -> Bools:
        """Which of `tokens` [m, L] end the lines of `rows` [m]."""
        eos = self.eos[rows]
        found = tokens == eos[:, :1]
        for column in range(1, eos.shape[1]):  # as many as a model has ends of line, which are few
            found |= tokens == eos[:, column, None]
        return found

    def any_of(self) -> dict[str, bool]:
        """Of every number, whether it is anything but neutral in any row."""
        n = len(self.rows)
        found = np.concatenate([self._integers[:, :n] != 0, self._floats[:, :n] != _NEUTRAL, self._flags[:, :n]]).any(1)
        return dict(zip(_NUMBERS, np.asarray(found).tolist(), strict=True))

    def _make_numbers(self, rows: int) -> None:
        """The arrays of numbers, one after another in three, of which the attributes are views."""
        self._integers = np.zeros((len(INTEGERS), rows), np.int64)
        self._floats = np.zeros((len(FLOATS), rows), np.float32)
        self._flags = np.zeros((len(FLAGS), rows), np.bool_)
        for names, numbers in ((INTEGERS, self._integers), (FLOATS, self._floats), (FLAGS, self._flags)):
            for name, array in zip(names, numbers, strict=True):
                setattr(self, name, array)

    def _widen_rows(self, rows: int) -> None:
        have = self.capacity
        old = (self._integers, self._floats, self._flags)
        self._make_numbers(rows)
        for numbers, before in zip((self._integers, self._floats, self._flags), old, strict=True):
            numbers[:, :have] = before
        for name in (*_COLUMNS, "memory", "previous"):
            array: NDArray[Any] | None = getattr(self, name)
            if array is not None:
                wider = np.zeros((rows, *array.shape[1:]), array.dtype)
                wider[:have] = array
                setattr(self, name, wider)
