"""manifest.json: everything about a model that is not in its graph."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Mode = Literal["diffusion", "self_speculation", "ar"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Frozen):
    """Where the weights came from: the checkpoint's folder name and its revision, if it had one."""

    checkpoint: str
    revision: str | None = None


class Target(_Frozen):
    """One engine's model file, as a path relative to the bundle."""

    engine: Literal["onnxruntime"]
    file: str


class Manifest(_Frozen):
    """Sizes, special ids, defaults and the SHA-256 of every file of a bundle.

    `files` maps relative POSIX paths to lower-case hexadecimal SHA-256. `banned_token_ids` are control tokens that a line may never
    contain (the end-of-line ids are not among them). `logit_shift` is 0 where the logits at a position speak of that position.
    """

    schema_version: Literal[1] = 1
    name: str = Field(min_length=1)
    family: str
    architecture: str
    precision: Literal["fp32", "int8"]
    opset: int = Field(ge=1)
    vocab_size: int = Field(ge=2)
    hidden_size: int = Field(ge=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    max_context: int = Field(ge=2)
    block_length: int = Field(ge=1)
    logit_shift: int = Field(default=0, ge=0, le=1)
    context_mask: Literal["causal"] = "causal"
    mask_token_id: int
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
        for field in ("mask_token_id", "bos_token_id", "pad_token_id"):
            self._check_id(field, getattr(self, field))
        for field in ("eos_token_ids", "banned_token_ids"):
            for token_id in getattr(self, field):
                self._check_id(field, token_id)
        if self.mask_token_id in self.eos_token_ids:
            raise ValueError(f"mask_token_id={self.mask_token_id} is also one of eos_token_ids={list(self.eos_token_ids)}")
        return self

    def _check_id(self, field: str, token_id: int | None) -> None:
        if token_id is not None and not 0 <= token_id < self.vocab_size:
            raise ValueError(f"{field} holds {token_id}, outside 0..{self.vocab_size - 1}")
