"""A line while it is written: what is settled, what is still a guess, and why it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal


class Line:
    """The tokens written after a prompt.

    `tokens` are settled, an end-of-line token included. With `overshoots` a line may pass its limit within the last piece, as the published
    self-speculation loop lets it; otherwise it is cut there.
    """

    def __init__(
        self, prompt_ids: Sequence[int], limit: int, eos_token_ids: Sequence[int], temperature: float = 0.0, overshoots: bool = False
    ) -> None:
        self.prompt_ids = prompt_ids
        self.limit = limit
        self.eos_token_ids = frozenset(eos_token_ids)
        self.temperature = temperature
        self.overshoots = overshoots
        self.tokens: list[int] = []
        self.ending: Literal["eos", "length"] | None = None
        self.revision = 0
        self._tail: list[int] = []
        self._tail_frozen: list[bool] = []

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
        for token_id in token_ids:
            self.tokens.append(token_id)
            if token_id in self.eos_token_ids:
                self.ending = "eos"
                return True
            if self.room == 0 and not self.overshoots:
                break
        if self.room <= 0:
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
