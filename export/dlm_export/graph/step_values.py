"""What a backbone is given of the step it is written into."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepValues:
    """Values of the graph: L and P as scalars, and who sees whom.

    `visible` is bool [B, L, L + P]; its columns are this step's tokens, then the past. See mask.py.
    """

    length: str
    past_length: str
    visible: str
