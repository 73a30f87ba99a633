"""A bundle's plan, run by TensorRT for RTX or TensorRT without ONNX Runtime in between.

    engine    composes the rest: one step is send, run, fetch
    plan      which plan of the bundle, read by which library
    libraries TensorRT and CUDA, imported when an engine is opened
    device    the CUDA calls that are used, with their errors
    memory    blocks of device and pinned host memory that grow in buckets
    layout    where tensors lie in a block
    profiles  which of the plan's profiles a batch fits
    senders   inputs on their way to the device; the past only when it has changed
    receiver  outputs on their way back, as far as they are wanted
    runner    plain launches, and CUDA graphs of shapes that come again
    portions  batches of more rows than the plan takes

No GPU has run any of this; docs/gpu.md says what has been tested instead.
"""

from dlm_runtime.engines.native.engine import NativeEngine

__all__ = ["NativeEngine"]
