"""Parallel unmasking: shape logits, choose tokens for masked positions, measure confidence, commit the best of them.

`parallel_unmask.onnxtxt` and `shape_logits.onnxtxt` are the specification, `function` puts them into an ONNX model, `reference` and
`shaping` are plain numpy versions of them. Only `function` needs the `onnx` package.
"""

from .reference import UnmaskInputs, UnmaskOutputs, parallel_unmask
from .shaping import ShapeInputs, shape_logits

__all__ = ["ShapeInputs", "UnmaskInputs", "UnmaskOutputs", "parallel_unmask", "shape_logits"]
