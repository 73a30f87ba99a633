"""A finished step graph taken apart for the block graph: what a pass computes anew, and what is computed once before them all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from onnx import AttributeProto, GraphProto, NodeProto

UNMASK = "ParallelUnmask"
VARYING = ("input_ids", "quota", "threshold", "factor", "step")  # inputs that every pass has values of its own for


@dataclass(frozen=True)
class StepParts:
    """Nodes of the step that a block needs, in order: those of a pass, and those before it. `unmask` is among the former."""

    before: list[NodeProto]
    each_pass: list[NodeProto]
    unmask: NodeProto

    @property
    def tokens(self) -> str:
        """What stands in the window, [B, W]."""
        return self.unmask.input[1]

    @property
    def live(self) -> str:
        """Which places of the window are no padding, bool [B, W]."""
        return self.unmask.input[2]


def divide(graph: GraphProto) -> StepParts:
    """Sort the step's nodes. Raises ValueError where the graph is not the exporter's."""
    found = [node for node in graph.node if node.op_type == UNMASK]
    if len(found) != 1:
        raise ValueError(f"the step graph has {len(found)} nodes {UNMASK}, not one")
    unmask = found[0]
    window = {node.output[0] for node in needed(graph.node, [unmask.input[1]])}
    varying: set[str] = set(VARYING)
    before: list[NodeProto] = []
    each_pass: list[NodeProto] = []
    for node in needed(graph.node, [unmask.output[0]]):
        # The window's first tokens are cut out before the loop, and a shape is the same in every pass.
        fixed = node.output[0] in window or (node.op_type == "Shape" and node.input[0] == "input_ids")
        if not fixed and varying & reads_of([node]):
            varying.update(node.output)
            each_pass.append(node)
        else:
            before.append(node)
    return StepParts(before, each_pass, unmask)


def needed(nodes: Sequence[NodeProto], values: Iterable[str]) -> list[NodeProto]:
    """The nodes that some values come from, in order."""
    wanted, kept = set(values), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= reads_of([node])
    return kept[::-1]


def reads_of(nodes: Iterable[NodeProto]) -> set[str]:
    """Values that nodes read from outside themselves, their subgraphs included."""
    names: set[str] = set()
    for node in nodes:
        names.update(name for name in node.input if name)
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                own = {value.name for value in attribute.g.input} | {name for inner in attribute.g.node for name in inner.output}
                names |= reads_of(attribute.g.node) - own
                names |= {value.name for value in attribute.g.output} - own
    return names


def renamed(node: NodeProto, names: Mapping[str, str]) -> NodeProto:
    """A copy that reads and writes other values, in its subgraphs too."""
    copy = NodeProto()
    copy.CopyFrom(node)
    for values in (copy.input, copy.output):
        values[:] = [names.get(name, name) for name in values]
    for attribute in copy.attribute:
        if attribute.type == AttributeProto.GRAPH:
            inside = [renamed(inner, names) for inner in attribute.g.node]
            del attribute.g.node[:]
            attribute.g.node.extend(inside)
    return copy
