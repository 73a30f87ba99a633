"""A model without its weights: all that rewriting looks at, in a size that can be copied and analysed however large the model is.

Small constants stay, so that a rule can read an axis or an epsilon. Weights, in the model or in a file beside it, become graph inputs of
their type and shape: rules see both, and nothing can load or move a weight. Model-local functions serve the shape inference and are left
out of what the rules see: their bodies stay as they are.
"""

from __future__ import annotations

import math

import onnx
import onnx_ir as ir
from onnx import ModelProto, TensorProto, helper
from onnxscript.rewriter import RULE_NAME_TAG

SMALL_NUMBERS = 256


def skeleton_of(model: ModelProto) -> ir.Model:
    """The graph with the types and shapes of its values, without weights and functions."""
    graph = helper.make_graph(
        list(model.graph.node),
        model.graph.name,
        [*model.graph.input, *(declared(tensor) for tensor in model.graph.initializer if not is_small(tensor))],
        list(model.graph.output),
        [tensor for tensor in model.graph.initializer if is_small(tensor)],
        value_info=list(model.graph.value_info),
    )
    bare = helper.make_model(graph, functions=list(model.functions), opset_imports=list(model.opset_import), ir_version=model.ir_version)
    typed = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    del typed.functions[:]
    return ir.from_proto(typed)


def is_small(tensor: TensorProto) -> bool:
    """Whether a tensor is a constant that rules may read, and no weight."""
    return tensor.data_location != TensorProto.EXTERNAL and math.prod(tensor.dims) <= SMALL_NUMBERS  # asking for its bytes would copy them


def declared(tensor: TensorProto) -> onnx.ValueInfoProto:
    """A weight as a graph input."""
    return helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))


def put_back(model: ModelProto, skeleton: ir.Model) -> None:
    """Give the model the new nodes of its rewritten skeleton, and drop the small constants that nothing reads any more.

    Weights, functions, inputs, outputs and all other nodes stay as they are, to the byte.
    """
    kept = {node.output[0]: node for node in model.graph.node}
    nodes = [ir.to_proto(node) if RULE_NAME_TAG in node.metadata_props else kept[str(node.outputs[0].name)] for node in skeleton.graph]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    unread = {name for name, value in skeleton.graph.initializers.items() if not value.uses() and not value.is_graph_output()}
    for index in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[index].name in unread:
            del model.graph.initializer[index]
