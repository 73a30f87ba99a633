from dlm_npc.v1 import mode_pb2 as _mode_pb2
from dlm_npc.v1 import turn_pb2 as _turn_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LineSpec(_message.Message):
    __slots__ = ("request_id", "session_id", "character_id", "player_text", "history", "mode", "budget_ms", "priority", "max_chars", "max_new_tokens", "threshold", "temperature", "seed", "fallback_text", "top_k", "top_p", "repetition_penalty", "guidance", "sampler")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CHARACTER_ID_FIELD_NUMBER: _ClassVar[int]
    PLAYER_TEXT_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    MAX_CHARS_FIELD_NUMBER: _ClassVar[int]
    MAX_NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_TEXT_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    SAMPLER_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    session_id: str
    character_id: str
    player_text: str
    history: _containers.RepeatedCompositeFieldContainer[_turn_pb2.Turn]
    mode: _mode_pb2.Mode
    budget_ms: int
    priority: int
    max_chars: int
    max_new_tokens: int
    threshold: float
    temperature: float
    seed: int
    fallback_text: str
    top_k: int
    top_p: float
    repetition_penalty: float
    guidance: float
    sampler: str
    def __init__(self, request_id: _Optional[str] = ..., session_id: _Optional[str] = ..., character_id: _Optional[str] = ..., player_text: _Optional[str] = ..., history: _Optional[_Iterable[_Union[_turn_pb2.Turn, _Mapping]]] = ..., mode: _Optional[_Union[_mode_pb2.Mode, str]] = ..., budget_ms: _Optional[int] = ..., priority: _Optional[int] = ..., max_chars: _Optional[int] = ..., max_new_tokens: _Optional[int] = ..., threshold: _Optional[float] = ..., temperature: _Optional[float] = ..., seed: _Optional[int] = ..., fallback_text: _Optional[str] = ..., top_k: _Optional[int] = ..., top_p: _Optional[float] = ..., repetition_penalty: _Optional[float] = ..., guidance: _Optional[float] = ..., sampler: _Optional[str] = ...) -> None: ...
