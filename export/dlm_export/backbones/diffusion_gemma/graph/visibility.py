"""What each kind of layer sees of a step."""

from __future__ import annotations

from ....graph.builder import GraphBuilder
from ....graph.mask import additive_bias
from ....graph.step_values import StepValues
from ..config import AttentionKind, DiffusionGemmaConfig


def build_biases(b: GraphBuilder, config: DiffusionGemmaConfig, step: StepValues) -> dict[AttentionKind, str]:
    """Additive masks [B, 1, G * L, L + P] of the kinds that occur; G queries share a key head."""
    biases: dict[AttentionKind, str] = {}
    for name, kind in config.kinds():
        visible = step.visible if kind.window is None else build_window(b, step, kind.window, f"{name}_mask")
        biases[kind] = additive_bias(b, visible, query_groups=config.heads // kind.kv_heads, name=f"{name}_mask")
    return biases


def build_window(b: GraphBuilder, step: StepValues, window: int, at: str) -> str:
    """What of `step.visible` is less than `window` tokens back, bool [B, L, L + P].

    The encoder's window moves with the query. The decoder's is what the last encoded token left in a rolling cache: the last
    `window - 1` tokens of the past, the same for the whole canvas, which itself is seen whole. So a canvas stands as if all of it were
    at its own first position.
    """
    encode = b.unsqueeze("encode", [1], f"{at}.encode")  # [B, 1]
    index = b.range(step.length, f"{at}.index")
    here = b.op("Where", [encode, index, b.constant(0)], f"{at}.here")  # [B, L], 0 is this step's first token
    past_lengths = b.unsqueeze("past_lengths", [1], f"{at}.past_lengths")
    past = b.op("Sub", [b.range(step.past_length, f"{at}.past_index"), past_lengths], f"{at}.past")  # [B, P], -1 is the last of the past
    columns = b.unsqueeze(b.op("Concat", [here, past], f"{at}.columns", axis=1), [1], f"{at}.column_row")  # [B, 1, L + P]
    distance = b.op("Sub", [b.unsqueeze(here, [2], f"{at}.here_column"), columns], f"{at}.distance")
    return b.op("And", [step.visible, b.op("Less", [distance, b.constant(window)], f"{at}.near")], f"{at}.visible")
