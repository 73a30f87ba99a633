"""model.onnx, written in one go from the checkpoint's weights."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import onnx

from .graph.builder import GraphBuilder
from .graph.context import GraphContext
from .graph.step import StepSettings, build_step, to_model
from .graph.weight_file import WeightFile
from .precision import PrecisionChoice, located_overflow
from .rewrites import RewriteReport, apply_rewrites
from .targets import target_of
from .weights import WeightReader

DATA_SUFFIX = ".data"


@dataclass(frozen=True)
class WrittenModel:
    """What is known of a graph once it is written. `rewrites` says which of the target's rewrites fired, and why others did not."""

    opset: int
    rewrites: RewriteReport


def write_model(file: Path, settings: StepSettings, weights: WeightReader, precisions: PrecisionChoice, *, external: bool) -> WrittenModel:
    """Write the step graph and check it. With `external`, large weights go to a file beside it as they are read.

    Raises CheckpointError for weights that cannot be read or written in the precision asked for, OptionError for a pattern of layers that
    matches none.
    """
    arithmetic = precisions.arithmetic()
    with weight_file(file.with_name(file.name + DATA_SUFFIX), external) as data, located_overflow(weights):
        builder = GraphBuilder(data)
        build_step(settings, GraphContext(builder, weights, arithmetic))
    arithmetic.kept.check()
    target = target_of(precisions.target, precisions.layers, lowest_opset=builder.lowest_opset)
    model = to_model(builder, weights.family.facts.name, opset=target.opset, ir_version=target.ir_version)
    model, rewrites = apply_rewrites(model, target)
    onnx.save_model(model, file)
    onnx.checker.check_model(file)
    return WrittenModel(target.opset, rewrites)


def weight_file(path: Path, external: bool) -> AbstractContextManager[WeightFile | None]:
    """The file for large weights, or none."""
    return WeightFile(path) if external else nullcontext()
