"""From the names of precisions to how a graph is written, for each target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dlm_runtime.bundle import CacheType, EngineName, Precision
from onnx import TensorProto

from ..errors import OptionError
from .arithmetic import Arithmetic
from .embedding import DequantizedEmbedding, EmbeddingWriter, Int8Embedding, StoredEmbedding
from .float32 import Float32Linear
from .float_types import BF16, FP16, FP32
from .half import HalfLinear
from .int4 import Int4Linear
from .int8 import Int8Linear
from .kept_layers import KeptLayers
from .linear import LinearWriter
from .stored_half import StoredHalfLinear
from .weight_only import Int4WeightLinear, Int8WeightLinear

TENSORRT_LINEAR: dict[Precision, LinearWriter] = {
    "fp32": Float32Linear(),
    "fp16": HalfLinear(FP16),
    "bf16": HalfLinear(BF16),
    "int8": Int8WeightLinear(),
    "int4": Int4WeightLinear(),
}
LINEAR: dict[EngineName, dict[Precision, LinearWriter]] = {
    "onnxruntime": {
        "fp32": Float32Linear(),
        "fp16": StoredHalfLinear(FP16),
        "bf16": StoredHalfLinear(BF16),
        "int8": Int8Linear(),
        "int4": Int4Linear(),
    },
    "tensorrt-rtx": TENSORRT_LINEAR,
    "tensorrt": TENSORRT_LINEAR,
}
STORED: dict[Precision, EmbeddingWriter] = {"fp32": StoredEmbedding(FP32), "fp16": StoredEmbedding(FP16), "bf16": StoredEmbedding(BF16)}
EMBEDDING: dict[EngineName, dict[Precision, EmbeddingWriter]] = {
    "onnxruntime": {**STORED, "int8": Int8Embedding()},
    "tensorrt-rtx": {**STORED, "int8": DequantizedEmbedding()},
    "tensorrt": {**STORED, "int8": DequantizedEmbedding()},
}
TENSORRT_CACHE: dict[Precision, CacheType] = {"fp16": "float16", "bf16": "bfloat16", "int8": "float16", "int4": "float16"}
CACHE: dict[EngineName, dict[Precision, CacheType]] = {
    "onnxruntime": {},
    "tensorrt-rtx": TENSORRT_CACHE,
    "tensorrt": TENSORRT_CACHE,
}
CACHE_ONNX: dict[CacheType, int] = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
SAME_EMBEDDING: tuple[Precision, ...] = ("fp32", "fp16", "bf16")


@dataclass(frozen=True)
class PrecisionChoice:
    """Which precision each part gets.

    `head` None is that of the layers, and so is `embedding` None where they are floating point. Below that an embedding stays as the
    checkpoint stores it (`stored`), which loses nothing, or becomes fp16 where products are in halves anyway.

    Raises OptionError where a part has no such precision.
    """

    layers: Precision = "fp32"
    embedding: Precision | None = None
    head: Precision | None = None
    kept: tuple[str, ...] = ()
    target: EngineName = "onnxruntime"
    stored: Precision = "fp32"

    def __post_init__(self) -> None:
        if self.target not in LINEAR:
            raise OptionError("--target", self.target, f"give one of {', '.join(LINEAR)}")
        precisions = LINEAR[self.target]
        for option, value, known in (
            ("--precision", self.layers, precisions),
            ("--embedding-precision", self.embedding, EMBEDDING[self.target]),
            ("--head-precision", self.head, precisions),
        ):
            if value is not None and value not in known:
                raise OptionError(option, value, f"give one of {', '.join(known)}")

    @property
    def embedding_in_use(self) -> Precision:
        """The embedding's precision."""
        if self.embedding is not None:
            return self.embedding
        if self.layers in SAME_EMBEDDING:
            return self.layers
        return self.stored if self.target == "onnxruntime" else "fp16"

    @property
    def head_in_use(self) -> Precision:
        """The head's precision."""
        return self.head or self.layers

    @property
    def cache(self) -> CacheType:
        """The element type of keys and values."""
        return CACHE[self.target].get(self.layers, "float32")

    def arithmetic(self) -> Arithmetic:
        """How the graph is written; made anew for every graph, as it remembers which layers it was asked about."""
        writers = LINEAR[self.target]
        return Arithmetic(
            linear=writers[self.layers],
            head=writers[self.head_in_use],
            embedding=EMBEDDING[self.target][self.embedding_in_use],
            cache_type=CACHE_ONNX[self.cache],
            kept=KeptLayers(self.kept),
        )

    def manifest_fields(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {
            "precision": self.layers,
            "embedding_precision": self.embedding_in_use,
            "head_precision": self.head,
            "kept_layers": self.kept,
            "cache_type": self.cache,
        }
