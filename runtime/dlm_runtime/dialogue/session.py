"""What was said before, in memory: a bounded number of conversations, each with a bounded number of turns."""

from __future__ import annotations

from collections import OrderedDict, deque

from dlm_runtime.dialogue.turn import Turn


class SessionStore:
    """The latest turns of every session and character. The conversation used longest ago goes first. One thread at a time."""

    def __init__(self, max_conversations: int = 1024, max_turns: int = 16) -> None:
        if max_conversations < 1 or max_turns < 1:
            raise ValueError(f"{max_conversations=} and {max_turns=} must be at least 1")
        self._max_conversations, self._max_turns = max_conversations, max_turns
        self._turns: OrderedDict[tuple[str, str], deque[Turn]] = OrderedDict()

    def __len__(self) -> int:
        """Number of conversations remembered."""
        return len(self._turns)

    def history(self, session_id: str, character_id: str) -> tuple[Turn, ...]:
        """The turns of a conversation, oldest first; none when it is new or forgotten."""
        turns = self._turns.get((session_id, character_id))
        if turns is None:
            return ()
        self._turns.move_to_end((session_id, character_id))
        return tuple(turns)

    def append(self, session_id: str, character_id: str, turn: Turn) -> None:
        """Remember one more turn, forgetting the oldest ones past the limits."""
        key = (session_id, character_id)
        self._turns.setdefault(key, deque(maxlen=self._max_turns)).append(turn)
        self._turns.move_to_end(key)
        while len(self._turns) > self._max_conversations:
            self._turns.popitem(last=False)
