"""What a target asks of a graph in one precision."""

from __future__ import annotations

from dataclasses import dataclass

from dlm_runtime.bundle import EngineName, Precision
from onnx.helper import OP_SET_ID_VERSION_MAP

from ..rewrites import Rewrite


@dataclass(frozen=True)
class AppliedRewrite:
    """A rewrite, and in a sentence why the target gets it."""

    rewrite: Rewrite
    why: str


@dataclass(frozen=True)
class ExportTarget:
    """The form of ONNX that an engine gets in one precision: versions, why those, and the rewrites, in the order in which they run.

    `opset` is the version of the standard operators, for the graph and for the bodies of its functions alike. `ir_version` is that of the
    file format.
    """

    name: EngineName
    precision: Precision
    opset: int
    ir_version: int
    why: str
    rewrites: tuple[AppliedRewrite, ...] = ()

    def __post_init__(self) -> None:
        least = OP_SET_ID_VERSION_MAP.get(("ai.onnx", self.opset))
        if least is None:
            raise ValueError(f"opset={self.opset} is none that onnx knows")
        if self.ir_version < least:
            raise ValueError(f"ir_version={self.ir_version} is too old for opset={self.opset}, which came with {least}")
        for applied in self.rewrites:
            if applied.rewrite.opset > self.opset:
                raise ValueError(f"{applied.rewrite.name} needs opset {applied.rewrite.opset}, not {self.opset}")
