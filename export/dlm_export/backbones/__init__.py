"""Networks that families are made of: each with its sizes, its plain torch module (the reference) and its ONNX graph."""

from .backbone import Backbone

__all__ = ["Backbone"]
