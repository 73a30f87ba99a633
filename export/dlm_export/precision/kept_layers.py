"""Layers that stay float32 whatever the precision."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ..errors import OptionError

OPTION = "--keep-fp32"
SHOWN_LAYERS = 6


@dataclass
class KeptLayers:
    """Shell patterns over layers' names, as `layers.0.*` or `*.down_proj`, and the layers that they were asked about.

    The head is no such layer; it has a precision of its own.
    """

    patterns: tuple[str, ...] = ()
    asked: dict[str, None] = field(default_factory=dict)  # an ordered set

    def keeps(self, node: str) -> bool:
        """Whether a layer stays float32."""
        self.asked[node] = None
        return any(fnmatchcase(node, pattern) for pattern in self.patterns)

    def check(self) -> None:
        """Raise OptionError for a pattern that no layer asked about matches. To be called when the graph is whole."""
        for pattern in self.patterns:
            if not any(fnmatchcase(node, pattern) for node in self.asked):
                raise OptionError(OPTION, pattern, f"no layer is called so; there are {self._some_layers()}")

    def _some_layers(self) -> str:
        names = list(self.asked)
        return ", ".join(names[:SHOWN_LAYERS]) + (f" and {len(names) - SHOWN_LAYERS} more" if len(names) > SHOWN_LAYERS else "")
