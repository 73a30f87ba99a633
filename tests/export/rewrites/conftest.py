"""Small graphs to rewrite, and ONNX Runtime to run them before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from dlm_export.graph.builder import GraphBuilder
from dlm_export.rewrites import Rewrite, RewriteOutcome, apply_rewrites
from dlm_export.targets import AppliedRewrite, ExportTarget
from onnx import ModelProto, helper

OPSET, IR_VERSION = 23, 11
Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Trial:
    """A model before and after one rewrite."""

    before: ModelProto
    after: ModelProto
    outcome: RewriteOutcome

    @property
    def kinds(self) -> list[str]:
        """Operators of the rewritten graph, in order."""
        return [node.op_type for node in self.after.graph.node]

    def reasons(self) -> list[str]:
        """Why places were left alone."""
        return [miss.reason for miss in self.outcome.misses]

    def largest_difference(self, feeds: Feeds) -> float:
        """Between all numbers that come out before and after, in ONNX Runtime."""
        pairs = zip(run(self.before, feeds), run(self.after, feeds), strict=True)
        return max(float(np.abs(one.astype(np.float64) - other).max()) for one, other in pairs)


def run(model: ModelProto, feeds: Feeds) -> list[Any]:
    """All outputs, on the CPU."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


@pytest.fixture
def rewritten() -> Callable[[GraphBuilder, Rewrite], Trial]:
    """Makes a model of what a builder holds, applies a rewrite, and has the checker look at the result."""

    def make(b: GraphBuilder, rewrite: Rewrite) -> Trial:
        graph = helper.make_graph(b.nodes, "part", b.inputs, b.outputs, list(b.initializers.values()))
        before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        target = ExportTarget("tensorrt-rtx", "fp16", OPSET, IR_VERSION, "for this test", (AppliedRewrite(rewrite, "for this test"),))
        after = ModelProto()
        after.CopyFrom(before)
        after, report = apply_rewrites(after, target)
        onnx.checker.check_model(after, full_check=True)
        return Trial(before, after, report.outcomes[0])

    return make
