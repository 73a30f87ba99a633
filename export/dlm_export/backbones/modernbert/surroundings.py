"""What a layer turns by and sees: one set for the global layers, one for the local ones, each written where a layer first needs it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...graph.builder import GraphBuilder
from ...graph.mask import additive_bias
from ...graph.rotary import RotaryTables, build_rotary, head_scale
from ...graph.step_values import StepValues
from ..denoiser.rope import plain_inverse_frequencies
from .config import ModernBertConfig


@dataclass(frozen=True)
class Surroundings:
    """Rotary tables [B, L, 2 H, dh], and the mask as a value of the graph, [B, 1, L, L + P]."""

    rotary: RotaryTables
    bias: str


@dataclass
class SurroundingsWriter:
    """Writes the surroundings of each kind of layer once."""

    b: GraphBuilder
    config: ModernBertConfig
    step: StepValues
    _written: dict[bool, Surroundings] = field(default_factory=dict)

    def of(self, layer: int) -> Surroundings:
        """Those of a layer."""
        local = self.config.is_local(layer)
        if local not in self._written:
            name, theta = ("local", self.config.local_theta) if local else ("global", self.config.global_theta)
            visible = build_neighbourhood(self.b, self.config, self.step) if local else self.step.visible
            tables = build_tables(self.b, self.config, theta, f"rotary.{name}")
            self._written[local] = Surroundings(tables, additive_bias(self.b, visible, name=f"mask.{name}"))
        return self._written[local]


def build_tables(b: GraphBuilder, config: ModernBertConfig, theta: float, name: str) -> RotaryTables:
    """Tables of queries and keys, [B, L, 2 H, dh]."""
    frequencies = plain_inverse_frequencies(theta, config.head_dim).numpy()
    scale = b.weight(f"{name}.head_scale", head_scale(config.heads, config.heads, config.head_dim))
    return build_rotary(b, frequencies, name=name).scaled(b, scale)


def build_neighbourhood(b: GraphBuilder, config: ModernBertConfig, step: StepValues) -> str:
    """What of `step.visible` is at most `window` positions away, bool [B, L, L + P]. Past column i is position i."""
    past = b.unsqueeze(b.range(step.past_length, "near.past_index"), [0], "near.past_row")  # [1, P]
    rows = b.unsqueeze(b.dimension("input_ids", 0, "near.batch"), [0], "near.rows")
    past_shape = b.op("Concat", [rows, b.constant([1])], "near.past_shape", axis=0)
    past_positions = b.op("Expand", [past, past_shape], "near.past_positions")  # [B, P]
    keys = b.op("Concat", ["position_ids", past_positions], "near.key_positions", axis=1)  # [B, L + P]
    key_row = b.unsqueeze(keys, [1], "near.key_row")
    query_column = b.unsqueeze("position_ids", [2], "near.query_column")  # [B, L, 1]
    # Two comparisons instead of one of the distance: not every engine has Abs for integers.
    window = b.constant(config.window)
    not_above = b.op("LessOrEqual", [key_row, b.op("Add", [query_column, window], "near.highest")], "near.not_above")
    not_below = b.op("LessOrEqual", [query_column, b.op("Add", [key_row, window], "near.farthest_query")], "near.not_below")
    near = b.op("And", [not_above, not_below], "near.within_window")  # [B, L, L + P]
    return b.op("And", [step.visible, near], "near.visible")
