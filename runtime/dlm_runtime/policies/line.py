"""A line while it is written: what is settled, what is still a guess, and why it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from dlm_runtime.policies.sampling import Sampling


class Line:
    """The tokens written after a prompt.

    `tokens` are settled, an end-of-line token included. With `overshoots` a line may pass its limit within the last piece, as the published
    self-speculation loop lets it; otherwise it is cut there.

    `canvas` is the policy's working memory, int64: the prompt, and whatever the policy lays behind it. Column c has position
    `first_position` + c. `block_origin` is the column at which block 0 of `Sees.BLOCKS` begins, negative where padding that nobody runs
    would stand before the prompt. Guidance masks the prompt's columns in the twin.
    """

    def __init__(
        self,
        prompt_ids: Sequence[int],
        limit: int,
        eos_token_ids: Sequence[int],
        sampling: Sampling | None = None,
        *,
        overshoots: bool = False,
        first_position: int = 0,
        block_origin: int = 0,
    ) -> None:
        self.prompt_ids = prompt_ids
        self.limit = limit
        self.eos_token_ids = frozenset(eos_token_ids)
        self.sampling = sampling or Sampling()
        self.overshoots = overshoots
        self.first_position = first_position
        self.block_origin = block_origin
        self.canvas = np.array(prompt_ids, np.int64)
        self.tokens: list[int] = []
        self.ending: Literal["eos", "length"] | None = None
        self.revision = 0
        self._tail: list[int] = []
        self._tail_frozen: list[bool] = []

    @property
    def prompt_length(self) -> int:
        """Columns of the prompt."""
        return len(self.prompt_ids)

    def lay(self, masks: int, mask_token_id: int) -> None:
        """Appends masked columns to the canvas."""
        self.canvas = np.concatenate([self.canvas, np.full(masks, mask_token_id, np.int64)])

    @property
    def room(self) -> int:
        """How many tokens may still be settled."""
        return self.limit - len(self.tokens)

    @property
    def text_ids(self) -> tuple[int, ...]:
        """The settled tokens without the end-of-line token."""
        return tuple(self.tokens[:-1] if self.ending == "eos" else self.tokens)

    def extend(self, token_ids: Sequence[int]) -> bool:
        """Settles tokens up to the first end-of-line token or the limit; True when the line has ended."""
        self._tail, self._tail_frozen = [], []
        self.revision += 1
        taken = token_ids if self.overshoots else token_ids[: self.room]
        whole = next((count for count, token_id in enumerate(taken, 1) if token_id in self.eos_token_ids), None)
        self.tokens.extend(taken[:whole])
        if whole is not None:
            self.ending = "eos"
        elif self.room <= 0:
            self.ending = "length"
        return self.ending is not None

    def show(self, tail: list[int], frozen: list[bool]) -> None:
        """Lays a draft behind the settled tokens; the next `extend` removes it."""
        self._tail, self._tail_frozen = tail, frozen
        self.revision += 1

    def draft(self) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """The whole line as it stands and which tokens are final. Ends of line are not shown; guesses behind the likely end neither."""
        token_ids = self.tokens + self._tail
        frozen = [True] * len(self.tokens) + self._tail_frozen
        ends = [token_id in self.eos_token_ids for token_id in token_ids]
        first_final_end = next((i for i, end in enumerate(ends) if end and frozen[i]), len(ends))
        last_final_word = max((i for i in range(first_final_end) if frozen[i]), default=-1)
        likely_end = next((i for i in range(last_final_word + 1, len(ends)) if ends[i]), len(ends))
        shown = [i for i in range(likely_end) if not ends[i]]
        return tuple(token_ids[i] for i in shown), tuple(frozen[i] for i in shown)
