"""Kernels of the decoding step: for each, a specification in standard ONNX operators and a plain reference."""
