"""What goes wrong with engines: errors that name what was asked for, and what the builder said."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ExportError
from .outcome import RefusedNode

SHOWN_LINES = 8
SHOWN_NODES = 8


class EngineError(ExportError):
    """No engine was built. `refused` are the nodes that the parser did not take."""

    def __init__(self, sentence: str, refused: Sequence[RefusedNode] = ()) -> None:
        super().__init__(sentence)
        self.refused = tuple(refused)


def refusal(graph: str, refused: Sequence[RefusedNode]) -> EngineError:
    """The parser did not take some nodes: which, and why."""
    named = [node.sentence() for node in refused[:SHOWN_NODES]]
    more = f" and {len(refused) - SHOWN_NODES} more" if len(refused) > SHOWN_NODES else ""
    count = "1 node" if len(refused) == 1 else f"{len(refused)} nodes"
    return EngineError(f"{graph}: the parser refuses {count}: {'; '.join(named)}{more}", refused)


def last_words(lines: Sequence[str]) -> str:
    """What a builder said last, in one line."""
    said = [line.strip() for line in lines if line.strip()][-SHOWN_LINES:]
    return f"It said: {' | '.join(said)}" if said else "It said nothing"
