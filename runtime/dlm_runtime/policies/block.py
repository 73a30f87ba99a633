"""A block of tokens, some of them masked, while it is denoised."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from dlm_runtime.policies.forward import Forward, Reply


@dataclass(slots=True)
class Block:
    """`token_ids` with `mask_token_id` where nothing has been committed; `guesses` holds the latest drawn token of every position."""

    token_ids: list[int]
    mask_token_id: int
    guesses: list[int]

    @staticmethod
    def after(seed_ids: list[int], length: int, mask_token_id: int) -> Block:
        """`seed_ids` followed by masks, `length` tokens in all."""
        token_ids = seed_ids + [mask_token_id] * (length - len(seed_ids))
        return Block(token_ids, mask_token_id, list(token_ids))

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def masks(self) -> int:
        """How many positions are masked."""
        return self.token_ids.count(self.mask_token_id)

    @property
    def frozen(self) -> list[bool]:
        """Which positions are committed."""
        return [token_id != self.mask_token_id for token_id in self.token_ids]

    def draft(self) -> list[int]:
        """Committed tokens, and guesses where there are none."""
        pairs = zip(self.token_ids, self.guesses, strict=True)
        return [guess if token_id == self.mask_token_id else token_id for token_id, guess in pairs]

    def settled(self, eos_token_ids: frozenset[int]) -> list[int] | None:
        """The block up to its first end of line, or all of it; None while a mask stands before that."""
        for index, token_id in enumerate(self.token_ids):
            if token_id == self.mask_token_id:
                return None
            if token_id in eos_token_ids:
                return self.token_ids[: index + 1]
        return self.token_ids

    def cut_behind_end(self, eos_token_ids: frozenset[int]) -> None:
        """Drops what stands behind the first committed end of line."""
        for index, token_id in enumerate(self.token_ids):
            if token_id in eos_token_ids:
                self.token_ids = self.token_ids[: index + 1]
                self.guesses = self.guesses[: index + 1]
                return

    def denoise(self, quota: int, threshold: float, temperature: float, step: int) -> Generator[Forward, Reply, None]:
        """One bidirectional step. The window is only as wide as the masks are spread: the head over the vocabulary is dear."""
        masked = [index for index, token_id in enumerate(self.token_ids) if token_id == self.mask_token_id]
        start, stop = masked[0], masked[-1] + 1
        reply = yield Forward(self.token_ids, False, start, stop - start, quota, threshold, temperature, step)
        self.token_ids = self.token_ids[:start] + reply.canvas + self.token_ids[stop:]
        self.guesses[start:stop] = reply.sampled
