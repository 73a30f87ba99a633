"""Test vectors of `dlm::ParallelUnmask`, the same for the ONNX function, the Triton kernel and the CUDA plugin.

`case_file` documents the format; `python -m dlm_kernels.vectors.generate OUT` writes them from the numpy reference.
"""

from .case_file import UnmaskCase, read_case, write_case

__all__ = ["UnmaskCase", "read_case", "write_case"]
