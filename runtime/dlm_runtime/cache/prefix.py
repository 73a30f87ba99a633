"""The prefix cache: a tree of token blocks with their keys and values.

With causal context the keys and values of a token depend on nothing but the tokens up to it, so two prompts that begin alike share them
exactly. With block-causal context they depend on the tokens up to the end of its block, so such prompts share whole blocks, and only with
prompts in blocks of the same length. A node is one block of tokens reached from its parent; its dictionary key holds the parent's number
and the tokens themselves, so nothing rests on a hash being unique.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from dlm_runtime.engines.key_values import KeyValues

_Key = tuple[int, tuple[int, ...]]  # number of the parent, tokens of the block


@dataclass(frozen=True)
class CacheStats:
    """Tokens asked for and found since the start, and what is held now."""

    lookup_tokens: int = 0
    hit_tokens: int = 0
    blocks: int = 0
    bytes: int = 0
    evicted_blocks: int = 0


@dataclass(slots=True)
class _Node:
    number: int
    context: KeyValues  # one row of one block


class PrefixCache:
    """Blocks of `block_tokens` tokens within a budget of `capacity_bytes`; the least recently used go first. Not thread-safe."""

    def __init__(self, capacity_bytes: int, block_tokens: int = 16) -> None:
        if capacity_bytes < 0 or block_tokens < 1:
            raise ValueError(f"{capacity_bytes=} must not be negative and {block_tokens=} must be at least 1")
        self.capacity_bytes = capacity_bytes
        self.block_tokens = block_tokens
        # Oldest first. A path is always touched from its leaf up, so a child is never younger than its parent and the oldest is a leaf.
        self._nodes: OrderedDict[_Key, _Node] = OrderedDict()
        self._next_number = 1
        self._bytes = 0
        self._lookup_tokens = 0
        self._hit_tokens = 0
        self._evicted_blocks = 0

    def size(self, block_length: int = 1) -> int:
        """Tokens of a block of prompts whose context is causal over blocks of `block_length` tokens; 1 is causal."""
        return math.lcm(self.block_tokens, block_length)

    def match(self, token_ids: Sequence[int], most: int, block_length: int = 1) -> list[KeyValues]:
        """The longest run of whole blocks that `token_ids` begins with, at most `most` tokens; each one row of `size(block_length)` tokens.

        The arrays belong to the cache: copy from them before the next `insert`, and do not write to them.
        """
        path = self._walk(token_ids, most, block_length)
        self._touch(path)
        return [self._nodes[key].context for key in path]

    def insert(self, token_ids: Sequence[int], context: KeyValues, block_length: int = 1) -> None:
        """Keeps every whole block of `token_ids`, whose keys and values `context`, one row of at least as many tokens, holds."""
        path = self._walk(token_ids, len(token_ids), block_length)
        self._touch(path)
        size = self.size(block_length)
        parent = self._nodes[path[-1]].number if path else _root(block_length)
        for start in range(len(path) * size, len(token_ids) - size + 1, size):
            block = context.part(tokens=slice(start, start + size)).copy()
            if self._bytes + block.nbytes > self.capacity_bytes and not self._make_room(block.nbytes, keep=set(path)):
                break
            key = (parent, tuple(token_ids[start : start + size]))
            self._nodes[key] = _Node(self._next_number, block)
            self._bytes += block.nbytes
            parent = self._next_number
            self._next_number += 1
            path.append(key)
        self._touch(path)

    def count(self, lookup_tokens: int, hit_tokens: int) -> None:
        """Notes a lookup that led somewhere; looking more than once for the same prompt is no more than one lookup."""
        self._lookup_tokens += lookup_tokens
        self._hit_tokens += hit_tokens

    def clear(self) -> None:
        """Forgets every block."""
        self._nodes.clear()
        self._bytes = 0

    def stats(self) -> CacheStats:
        """Counters so far."""
        return CacheStats(self._lookup_tokens, self._hit_tokens, len(self._nodes), self._bytes, self._evicted_blocks)

    def _walk(self, token_ids: Sequence[int], most: int, block_length: int) -> list[_Key]:
        path: list[_Key] = []
        parent, size = _root(block_length), self.size(block_length)
        for start in range(0, min(most, len(token_ids)) - size + 1, size):
            key = (parent, tuple(token_ids[start : start + size]))
            node = self._nodes.get(key)
            if node is None:
                break
            path.append(key)
            parent = node.number
        return path

    def _touch(self, path: list[_Key]) -> None:
        for key in reversed(path):
            self._nodes.move_to_end(key)

    def _make_room(self, wanted_bytes: int, keep: set[_Key]) -> bool:
        """Evicts the oldest until `wanted_bytes` fit; False when only `keep` (the path being built) is left to evict."""
        while self._nodes and self._bytes + wanted_bytes > self.capacity_bytes:
            oldest = next(iter(self._nodes))
            if oldest in keep:
                return False
            self._bytes -= self._nodes.pop(oldest).context.nbytes
            self._evicted_blocks += 1
        return self._bytes + wanted_bytes <= self.capacity_bytes


def _root(block_length: int) -> int:
    """What the first blocks hang from: prompts in blocks of different length share nothing. Nodes count from 1."""
    return 1 - block_length
