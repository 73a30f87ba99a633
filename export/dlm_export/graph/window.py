"""The window: the positions whose logits are wanted. The head, the widest product of the step, runs on nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from .builder import GraphBuilder


@dataclass(frozen=True)
class Window:
    """Values of the graph. The indices, int64 [B, W, 1], point into L, clipped to it; `live` bool [B, W] is False on padding.

    `speakers` are the tokens whose hidden states speak for the window's positions: these themselves, or with a row's `shift` of 1 those
    before them, in networks trained to predict the next token.
    """

    index: str
    speakers: str
    live: str

    def take(self, b: GraphBuilder, value: str, name: str) -> str:
        """The window's part of [B, L, ...]."""
        return b.op("GatherND", [value, self.index], name, batch_dims=1)

    def take_speakers(self, b: GraphBuilder, value: str, name: str) -> str:
        """What in [B, L, ...] speaks for the window."""
        return b.op("GatherND", [value, self.speakers], name, batch_dims=1)


def build_window(b: GraphBuilder, *, length: str) -> Window:
    """Positions `window_start` .. `window_start + W - 1`, W from `allow_rows`."""
    size = b.dimension("allow_rows", 1, "window.size")
    start = b.unsqueeze("window_start", [1], "window.start")
    unclipped = b.op("Add", [start, b.range(size, "window.offsets")], "window.unclipped")  # [B, W]
    last = b.op("Sub", [length, b.constant(1)], "window.last")
    index = b.op("Min", [unclipped, last], "window.clipped")
    shifted = b.op("Sub", [unclipped, b.unsqueeze("shift", [1], "window.shift")], "window.shifted")
    from_first = b.op("Max", [shifted, b.constant(0)], "window.from_first")  # the first token speaks for itself
    speakers = b.op("Min", [from_first, last], "window.clipped_speakers")
    query_lengths = b.unsqueeze("query_lengths", [1], "window.query_lengths")
    live = b.op("Less", [unclipped, query_lengths], "window.live")
    return Window(b.unsqueeze(index, [2], "window.index"), b.unsqueeze(speakers, [2], "window.speakers"), live)
