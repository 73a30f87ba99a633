"""What came of building one engine, as the process that did it writes it down."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

SHOWN_CHARACTERS = 300
State = Literal["built", "refused", "failed"]


@dataclass(frozen=True)
class RefusedNode:
    """A node that the parser does not take. `function` is the local function that it stands in, if any."""

    node: str
    operator: str
    description: str
    function: str = ""

    def sentence(self) -> str:
        """The node in one line."""
        name = f"{self.function}/{self.node}" if self.function else self.node or "a node without a name"
        shown = self.description if len(self.description) <= SHOWN_CHARACTERS else f"{self.description[:SHOWN_CHARACTERS]}..."
        return f"{name} ({self.operator or 'no operator'}): {shown}"


@dataclass(frozen=True)
class Layer:
    """A layer of the network that the parser made, before anything is fused."""

    name: str
    kind: str


@dataclass(frozen=True)
class BuildOutcome:
    """One attempt. `lines` is what the library said, warnings and errors; times are in seconds."""

    state: State
    builder: str
    refused: tuple[RefusedNode, ...] = ()
    layers: tuple[Layer, ...] = ()
    lines: tuple[str, ...] = ()
    parse_s: float = 0.0
    build_s: float = 0.0
    plan_bytes: int = 0

    @property
    def plugins(self) -> tuple[str, ...]:
        """Names of the layers that a plugin computes."""
        return tuple(layer.name for layer in self.layers if layer.kind.startswith("PLUGIN"))

    def to_json(self) -> dict[str, Any]:
        """Plain data, for `from_json` on the other side."""
        return asdict(self)

    @staticmethod
    def from_json(fields: dict[str, Any]) -> BuildOutcome:
        """The outcome that `to_json` wrote."""
        nodes = tuple(RefusedNode(**node) for node in fields["refused"])
        layers = tuple(Layer(**layer) for layer in fields["layers"])
        return BuildOutcome(**{**fields, "refused": nodes, "layers": layers, "lines": tuple(fields["lines"])})
