"""manifest.json: everything about a model that is not in its graph."""

from __future__ import annotations

from functools import cached_property
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Mode = Literal["diffusion", "self_speculation", "ar"]
ContextMask = Literal["causal", "block_causal", "bidirectional"]
Precision = Literal["fp32", "fp16", "bf16", "int8", "int4"]
EngineName = Literal["onnxruntime", "tensorrt-rtx", "tensorrt"]
CacheType = Literal["float32", "float16", "bfloat16"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Frozen):
    """Where the weights came from: the checkpoint's folder name and its revision, if it had one."""

    checkpoint: str
    revision: str | None = None


class PlanProfile(_Frozen):
    """Shapes that a plan takes: the smallest, the usual and the largest size of every named dimension, such as {"B": (1, 4, 8)}."""

    name: str
    dimensions: dict[str, tuple[int, int, int]]


class Plan(_Frozen):
    """An engine that TensorRT built of one of the bundle's graphs.

    `graph` and `file` are paths relative to the bundle. `compute_capabilities` are written as in "86", and none says the card that it was
    built on. `plugin` is null where the engine runs standard operators alone, else the name of the library or "python": the engine
    cannot be loaded without that plugin.
    """

    graph: str
    file: str
    builder: str
    compute_capabilities: tuple[str, ...] = ()
    profiles: tuple[PlanProfile, ...] = Field(min_length=1)
    plugin: str | None = None


class Target(_Frozen):
    """One engine's model file, as a path relative to the bundle.

    `block_file` is the graph that denoises a whole block in one call, where there is one, and `plans` are the engines built so far.
    """

    engine: EngineName
    file: str
    block_file: str | None = None
    plans: tuple[Plan, ...] = ()

    def files(self) -> tuple[str, ...]:
        """All that the target needs of the bundle."""
        return (self.file, *([self.block_file] if self.block_file else []), *(plan.file for plan in self.plans))


class Manifest(_Frozen):
    """Sizes, special ids, defaults and the SHA-256 of every file of a bundle.

    `precision` is that of the linear layers; `embedding_precision` and `head_precision` are those of the two tables of the vocabulary, and
    layers whose name matches one of `kept_layers` stayed fp32. `cache_type` is the element type of keys and values. `layer_caches` lists
    (kv_heads, head_dim) of every layer where they are not all alike. `context_mask` says how committed tokens look at each other, and
    `mask_token_id` is null where a canvas starts from random tokens instead of masks.
    `files` maps relative POSIX paths to lower-case hexadecimal SHA-256. `banned_token_ids` are control tokens that a line may never
    contain (the end-of-line ids are not among them). `logit_shift` is 0 where the logits at a position speak of that position.
    """

    schema_version: Literal[1] = 1
    name: str = Field(min_length=1)
    family: str
    architecture: str
    precision: Precision
    embedding_precision: Precision = "fp32"
    head_precision: Precision | None = None
    kept_layers: tuple[str, ...] = ()
    cache_type: CacheType = "float32"
    opset: int = Field(ge=1)
    vocab_size: int = Field(ge=2)
    hidden_size: int = Field(ge=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    layer_caches: tuple[tuple[int, int], ...] = ()
    max_context: int = Field(ge=2)
    block_length: int = Field(ge=1)
    logit_shift: int = Field(default=0, ge=0, le=1)
    context_mask: ContextMask = "causal"
    mask_token_id: int | None
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = Field(min_length=1)
    pad_token_id: int
    banned_token_ids: tuple[int, ...] = ()
    modes: tuple[Mode, ...] = Field(min_length=1)
    default_mode: Mode
    default_threshold: float = Field(default=0.9, ge=0.0, le=1.0)
    top_k: int = Field(default=8, ge=1)
    chat_template: str | None = None
    source: Source
    targets: tuple[Target, ...] = Field(min_length=1)
    files: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads={self.heads} is not a multiple of kv_heads={self.kv_heads}")
        if self.default_mode not in self.modes:
            raise ValueError(f"default_mode={self.default_mode!r} is not one of modes={list(self.modes)}")
        if self.block_length > self.max_context:
            raise ValueError(f"block_length={self.block_length} exceeds max_context={self.max_context}")
        if self.layer_caches and len(self.layer_caches) != self.layers:
            raise ValueError(f"layer_caches has {len(self.layer_caches)} entries for layers={self.layers}")
        for field in ("mask_token_id", "bos_token_id", "pad_token_id"):
            self._check_id(field, getattr(self, field))
        for field in ("eos_token_ids", "banned_token_ids"):
            for token_id in getattr(self, field):
                self._check_id(field, token_id)
        if self.mask_token_id in self.eos_token_ids:
            raise ValueError(f"mask_token_id={self.mask_token_id} is also one of eos_token_ids={list(self.eos_token_ids)}")
        return self

    def cache_shape(self, layer: int) -> tuple[int, int]:
        """Key heads and their width, (Hkv, dh), of a layer."""
        return self.layer_caches[layer] if self.layer_caches else (self.kv_heads, self.head_dim)

    @cached_property
    def layers_by_cache_shape(self) -> dict[tuple[int, int], tuple[int, ...]]:
        """Which layers have keys of which shape, in the order in which the shapes come first."""
        layers: dict[tuple[int, int], tuple[int, ...]] = {}
        for layer in range(self.layers):
            shape = self.cache_shape(layer)
            layers[shape] = (*layers.get(shape, ()), layer)
        return layers

    def _check_id(self, field: str, token_id: int | None) -> None:
        if token_id is not None and not 0 <= token_id < self.vocab_size:
            raise ValueError(f"{field} holds {token_id}, outside 0..{self.vocab_size - 1}")
