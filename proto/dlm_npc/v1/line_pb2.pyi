from dlm_npc.v1 import mode_pb2 as _mode_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_END: _ClassVar[FinishReason]
    FINISH_REASON_MAX_TOKENS: _ClassVar[FinishReason]
    FINISH_REASON_MAX_CHARS: _ClassVar[FinishReason]
    FINISH_REASON_FALLBACK: _ClassVar[FinishReason]
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_END: FinishReason
FINISH_REASON_MAX_TOKENS: FinishReason
FINISH_REASON_MAX_CHARS: FinishReason
FINISH_REASON_FALLBACK: FinishReason

class LineAccepted(_message.Message):
    __slots__ = ("request_id", "queue_position", "prompt_tokens", "history_turns")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_TURNS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    queue_position: int
    prompt_tokens: int
    history_turns: int
    def __init__(self, request_id: _Optional[str] = ..., queue_position: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., history_turns: _Optional[int] = ...) -> None: ...

class LineDraft(_message.Message):
    __slots__ = ("revision", "text", "pieces")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PIECES_FIELD_NUMBER: _ClassVar[int]
    revision: int
    text: str
    pieces: _containers.RepeatedCompositeFieldContainer[DraftPiece]
    def __init__(self, revision: _Optional[int] = ..., text: _Optional[str] = ..., pieces: _Optional[_Iterable[_Union[DraftPiece, _Mapping]]] = ...) -> None: ...

class DraftPiece(_message.Message):
    __slots__ = ("text", "frozen")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FROZEN_FIELD_NUMBER: _ClassVar[int]
    text: str
    frozen: bool
    def __init__(self, text: _Optional[str] = ..., frozen: _Optional[bool] = ...) -> None: ...

class Line(_message.Message):
    __slots__ = ("request_id", "character_id", "text", "finish_reason", "mode", "seed", "tokens", "forwards", "prompt_tokens", "cached_tokens", "timings", "model_sha256")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CHARACTER_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    FORWARDS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    MODEL_SHA256_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    character_id: str
    text: str
    finish_reason: FinishReason
    mode: _mode_pb2.Mode
    seed: int
    tokens: int
    forwards: int
    prompt_tokens: int
    cached_tokens: int
    timings: LineTimings
    model_sha256: str
    def __init__(self, request_id: _Optional[str] = ..., character_id: _Optional[str] = ..., text: _Optional[str] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., mode: _Optional[_Union[_mode_pb2.Mode, str]] = ..., seed: _Optional[int] = ..., tokens: _Optional[int] = ..., forwards: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., cached_tokens: _Optional[int] = ..., timings: _Optional[_Union[LineTimings, _Mapping]] = ..., model_sha256: _Optional[str] = ...) -> None: ...

class LineTimings(_message.Message):
    __slots__ = ("queue_ms", "prefill_ms", "total_ms")
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    PREFILL_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    queue_ms: float
    prefill_ms: float
    total_ms: float
    def __init__(self, queue_ms: _Optional[float] = ..., prefill_ms: _Optional[float] = ..., total_ms: _Optional[float] = ...) -> None: ...
