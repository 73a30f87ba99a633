"""The window: the positions whose logits are wanted. The head, the widest product of the step, runs on nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from .builder import GraphBuilder


@dataclass(frozen=True)
class Window:
    """Values of the graph. `index` int64 [B, W, 1] points into L, clipped to it; `live` bool [B, W] is False on padding."""

    index: str
    live: str

    def take(self, b: GraphBuilder, value: str, name: str) -> str:
        """The window's part of [B, L, ...]."""
        return b.op("GatherND", [value, self.index], name, batch_dims=1)


def build_window(b: GraphBuilder, *, length: str) -> Window:
    """Positions `window_start` .. `window_start + W - 1`, W from `allow_rows`."""
    size = b.dimension("allow_rows", 1, "window.size")
    start = b.unsqueeze("window_start", [1], "window.start")
    unclipped = b.op("Add", [start, b.range(size, "window.offsets")], "window.unclipped")  # [B, W]
    last = b.op("Sub", [length, b.constant(1)], "window.last")
    index = b.op("Min", [unclipped, last], "window.clipped")
    query_lengths = b.unsqueeze("query_lengths", [1], "window.query_lengths")
    live = b.op("Less", [unclipped, query_lengths], "window.live")
    return Window(b.unsqueeze(index, [2], "window.index"), live)
