"""Runs a target's rewrites over a finished model and says what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx import ModelProto
from onnxscript.rewriter import MatchingTracer, MatchResult, MatchStatus, RewriteRule, RewriteRuleSet

from .report import RewriteOutcome, RewriteReport, grouped
from .rewrite import Rewrite
from .skeleton import put_back, skeleton_of

if TYPE_CHECKING:  # targets name the rewrites
    from ..targets import ExportTarget


def apply_rewrites(model: ModelProto, target: ExportTarget) -> tuple[ModelProto, RewriteReport]:
    """The model with the target's rewrites applied, and a report of them.

    The model is changed in place, for its weights may be gigabytes; they are neither loaded nor copied, and a weight file beside the model
    is not opened. Raises ValueError for a model of another operator set than the target's.
    """
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("") != target.opset:
        raise ValueError(f"the model has operator set {opsets.get('')}, the target {target.name} in {target.precision} {target.opset}")
    if not target.rewrites:
        return model, RewriteReport()
    skeleton = skeleton_of(model)
    outcomes = tuple(apply_rewrite(skeleton, applied.rewrite) for applied in target.rewrites)
    if any(outcome.fired for outcome in outcomes):
        put_back(model, skeleton)
    return model, RewriteReport(outcomes)


def apply_rewrite(skeleton: ir.Model, rewrite: Rewrite) -> RewriteOutcome:
    """Apply one rewrite wherever it can be, and look at what is left for places where it nearly could."""
    if all(node.op_type != rewrite.anchor for node in skeleton.graph):
        return RewriteOutcome(rewrite.name, 0)
    rules = RewriteRuleSet(rewrite.rules)
    unread_before = {node for node in skeleton.graph if is_unread(node)}
    fired = rules.apply_to_model(skeleton)
    for node in reversed(skeleton.graph):
        if is_unread(node) and node not in unread_before:
            skeleton.graph.remove(node, safe=True)
    near_misses = NearMisses(rewrite.anchor)
    rules.apply_to_model(skeleton, tracer=near_misses)  # with a tracer it looks without touching
    return RewriteOutcome(rewrite.name, fired, grouped(near_misses.reasons()))


def is_unread(node: ir.Node) -> bool:
    """Whether nothing looks at what a node computes."""
    return not any(value.uses() or value.is_graph_output() for value in node.outputs)


class NearMisses(MatchingTracer):
    """Remembers the places that a rule recognised as far as its anchor and then refused. The rule that came furthest has the word."""

    def __init__(self, anchor: str) -> None:
        super().__init__()
        self._anchor = anchor
        self._furthest: dict[ir.Node, tuple[ir.Node, int, str]] = {}  # by anchor node: where the place ends, how much of it fits, why not

    def log(
        self, rule: RewriteRule, container: ir.Graph | ir.Function, node: ir.Node, match_result: MatchResult, status: MatchStatus
    ) -> None:
        """See `MatchingTracer.log`: called for every attempt."""
        if status == MatchStatus.SUCCESS:
            return
        recognised = len(match_result.nodes) + (status == MatchStatus.CONDITION_FAILED)
        for matched in match_result.nodes:
            if matched.op_type == self._anchor and recognised > self._furthest.get(matched, (None, 0, ""))[1]:
                self._furthest[matched] = node, recognised, in_words(match_result.reason, status)

    def reasons(self) -> list[tuple[str, str]]:
        """The last node of every such place and why it stayed as it was, in the order of the graph."""
        return [(node.name or node.op_type, reason) for node, _, reason in self._furthest.values()]


def in_words(reason: str, status: MatchStatus) -> str:
    """A rule's own reason as it is; what the matcher says of the operators, so that whoever exports can read it."""
    if status == MatchStatus.CONDITION_FAILED:
        return reason
    return "a part of it is used elsewhere" if "other uses" in reason else f"it is written otherwise: {reason.rstrip('.')}"
