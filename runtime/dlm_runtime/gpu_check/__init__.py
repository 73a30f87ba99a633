"""`dlm-bench gpu-check`: whether every engine that this machine has computes what ONNX Runtime computes on the CPU, and how fast.

check      one check: passed, failed or skipped, with a sentence
machine    what it was run on
batches    random steps of every kind
decisions  whether a step decided rightly, by the numpy reference on its own logits
parity     a step of an engine against the same step on the CPU
lines      whole lines through the scheduler: against the CPU, twice, alone and in company
timings    milliseconds of a step by shape
kernels    Triton kernel and CUDA core on the shared test vectors
plans      building TensorRT plans in a copy of the bundle
report     all of it as Markdown and as JSON
run        composes the rest
"""
