"""Optimisation profiles: the sizes of a graph's named dimensions that an engine is built for.

A call has to fit one profile. There are three, for the three kinds of work, because kernels are chosen for the usual size of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dlm_runtime.bundle import PlanProfile
from onnx import ModelProto, ValueInfoProto

from .engine_options import EngineLimits
from .errors import EngineError

Sizes = tuple[int, int, int]
ECHO = 2  # a verification runs as many masks again as it runs drafted tokens
USUAL_PREFILL = 128
USUAL_ALLOW_ROWS, FEWEST_MOST_ALLOW_ROWS = 2, 16
MOST_RECENT_TOKENS = 1024  # the runtime sends 64


@dataclass(frozen=True)
class Profile:
    """Smallest, usual and largest size of every named dimension.

    Raises ValueError for sizes that do not rise.
    """

    name: str
    dimensions: Mapping[str, Sizes]

    def __post_init__(self) -> None:
        for dimension, sizes in self.dimensions.items():
            if not 0 <= sizes[0] <= sizes[1] <= sizes[2]:
                raise ValueError(f"{self.name}: {dimension}={sizes} do not rise from 0")

    def shapes(self, model: ModelProto) -> dict[str, list[list[int]]]:
        """Smallest, usual and largest shape of every input. Raises EngineError for a dimension that nothing is known of."""
        return {value.name: self._of_input(value.name, dimensions_of(value)) for value in model.graph.input}

    def recorded(self, model: ModelProto) -> PlanProfile:
        """The profile as the manifest holds it: what the graph has of it."""
        used = {size for value in model.graph.input for size in dimensions_of(value) if isinstance(size, str)}
        return PlanProfile(name=self.name, dimensions={name: sizes for name, sizes in self.dimensions.items() if name in used})

    def _of_input(self, name: str, dimensions: Sequence[int | str]) -> list[list[int]]:
        unknown = [size for size in dimensions if isinstance(size, str) and size not in self.dimensions]
        if unknown:
            raise EngineError(f"input {name!r} has a dimension {unknown[0]!r}, for which no profile says how large it may be")
        return [[size if isinstance(size, int) else self.dimensions[size][index] for size in dimensions] for index in range(3)]


def dimensions_of(value: ValueInfoProto) -> list[int | str]:
    """Sizes of an input, or their names."""
    return [item.dim_param or item.dim_value for item in value.type.tensor_type.shape.dim]


def step_profiles(limits: EngineLimits) -> tuple[Profile, ...]:
    """Of the step graph: prompts, blocks to denoise or to verify, and single tokens."""
    context, block = limits.max_context, limits.block_length
    widest = min(context, ECHO * block)
    longest = max(widest, limits.max_prefill) if limits.max_prefill == context else widest
    rows, half = limits.max_batch, max(1, limits.max_batch // 2)
    common = common_sizes(limits)
    return (
        Profile(
            "prefill",
            common
            | {
                "B": (1, 1, rows),
                "L": (1, min(USUAL_PREFILL, limits.max_prefill), limits.max_prefill),
                "W": (1, 1, min(widest, limits.max_prefill)),
                "S": (1, 1, 1),
            },
        ),
        Profile("denoise", common | {"B": (1, half, rows), "L": (1, block, longest), "W": (1, block, widest), "S": (1, block, longest)}),
        Profile("autoregression", common | {"B": (1, half, rows), "L": (1, 1, 1), "W": (1, 1, 1), "S": (1, 1, 1)}),
    )


def block_profiles(limits: EngineLimits) -> tuple[Profile, ...]:
    """Of the block graph; its S is how many passes have a quota of their own."""
    denoise = step_profiles(limits)[1]
    block = limits.block_length
    return (Profile("denoise", {**denoise.dimensions, "S": (1, block, ECHO * block)}),)


def common_sizes(limits: EngineLimits) -> dict[str, Sizes]:
    """Dimensions that all profiles have alike: past, rows of the allow-table, recent tokens. Past and recent tokens may be absent."""
    past = limits.max_context - 1
    table = max(FEWEST_MOST_ALLOW_ROWS, 2 * limits.max_batch)
    return {"P": (0, past // 2, past), "G": (1, USUAL_ALLOW_ROWS, table), "R": (0, 0, min(MOST_RECENT_TOKENS, limits.max_context))}
