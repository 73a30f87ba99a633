"""Parallel unmasking: choose tokens for masked positions, measure confidence, commit the best of them.

`parallel_unmask.onnxtxt` is the specification, `function` puts it into an ONNX model, `reference` is the plain numpy version of it.
Only `function` needs the `onnx` package.
"""

from .reference import UnmaskInputs, UnmaskOutputs, parallel_unmask

__all__ = ["UnmaskInputs", "UnmaskOutputs", "parallel_unmask"]
