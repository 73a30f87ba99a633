"""A plugin `dlm::ParallelUnmask` in name and shapes alone, to see an engine with the plugin built where the real one is not compiled.

It computes nothing. An engine that was built with it wants a plugin of the same name and version when it is loaded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from dlm_kernels.unmask.function import DOMAIN, INPUTS, OUTPUTS, PLUGIN_VERSION

NAME = "ParallelUnmask"
ATTRIBUTES = ("mask_token_id", "top_k")
WHOLE = ("canvas", "committed", "sampled_ids", "top_ids")  # outputs that are int64; the others are float32
SHAPES = {"committed": 1, "top_ids": 3, "top_logprobs": 3}  # dimensions; the others have two, rows and window


def stand_in(trt: Any) -> Any:
    """The plugin's class, made here, as its bases are the library's."""

    class StandIn(trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):
        def __init__(self, attributes: dict[str, int]) -> None:
            for base in (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):
                base.__init__(self)
            self.num_outputs = len(OUTPUTS)
            self.plugin_namespace, self.plugin_name, self.plugin_version = DOMAIN, NAME, PLUGIN_VERSION
            self.attributes = attributes
            self.fields = [np.array([value], np.int64) for value in attributes.values()]  # the library reads them later

        def get_capability_interface(self, kind: Any) -> Any:
            return self

        def get_output_data_types(self, input_types: Any) -> Any:
            return [trt.int64 if name in WHOLE else trt.float32 for name in OUTPUTS]

        def get_output_shapes(self, inputs: Any, shape_inputs: Any, expressions: Any) -> Any:
            tokens = inputs[INPUTS.index("tokens")]
            sizes = (tokens[0], tokens[1], expressions.constant(self.attributes["top_k"]))
            return [dimensions(trt, sizes[: SHAPES.get(name, 2)]) for name in OUTPUTS]

        def get_fields_to_serialize(self) -> Any:
            kind = trt.PluginFieldType.INT64
            return trt.PluginFieldCollection(
                [trt.PluginField(name, value, kind) for name, value in zip(self.attributes, self.fields, strict=True)]
            )

        def configure_plugin(self, inputs: Any, outputs: Any) -> None: ...

        def on_shape_change(self, inputs: Any, outputs: Any) -> None: ...

        def supports_format_combination(self, position: int, tensors: Any, input_count: int) -> bool:
            return tensors[position].desc.format == trt.TensorFormat.LINEAR  # the network is strongly typed, so types are given

        def get_workspace_size(self, inputs: Any, outputs: Any) -> int:
            return 0

        def get_valid_tactics(self) -> list[int]:
            return []

        def set_tactic(self, tactic: int) -> None: ...

        def enqueue(self, *arguments: Any) -> None: ...

        def attach_to_context(self, context: Any) -> Any:
            return self.clone()

        def clone(self) -> Any:
            copy = StandIn(dict(self.attributes))
            copy.__dict__.update(self.__dict__)
            return copy

    return StandIn


def stand_in_creator(trt: Any) -> Any:
    """A creator to register, of a class that is made here for the same reason."""
    plugin = stand_in(trt)

    class Creator(trt.IPluginCreatorV3One):
        def __init__(self) -> None:
            trt.IPluginCreatorV3One.__init__(self)
            self.name, self.plugin_namespace, self.plugin_version = NAME, DOMAIN, PLUGIN_VERSION
            kind = trt.PluginFieldType.INT64
            self.field_names = trt.PluginFieldCollection([trt.PluginField(name, np.array([], np.int64), kind) for name in ATTRIBUTES])

        def create_plugin(self, name: str, fields: Any, phase: Any) -> Any:
            """Integers come as INT32 from the parser and as INT64 from a plan."""
            return plugin({field.name: int(field.data[0]) for field in fields if field.name in ATTRIBUTES})

    return Creator()


def dimensions(trt: Any, sizes: Any) -> Any:
    """A shape of the library's."""
    made = trt.DimsExprs(len(sizes))
    for index, size in enumerate(sizes):
        made[index] = size
    return made
