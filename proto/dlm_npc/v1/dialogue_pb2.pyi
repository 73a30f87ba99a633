from dlm_npc.v1 import line_pb2 as _line_pb2
from dlm_npc.v1 import line_spec_pb2 as _line_spec_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SpeakRequest(_message.Message):
    __slots__ = ("line",)
    LINE_FIELD_NUMBER: _ClassVar[int]
    line: _line_spec_pb2.LineSpec
    def __init__(self, line: _Optional[_Union[_line_spec_pb2.LineSpec, _Mapping]] = ...) -> None: ...

class SpeakResponse(_message.Message):
    __slots__ = ("line",)
    LINE_FIELD_NUMBER: _ClassVar[int]
    line: _line_pb2.Line
    def __init__(self, line: _Optional[_Union[_line_pb2.Line, _Mapping]] = ...) -> None: ...

class SpeakStreamRequest(_message.Message):
    __slots__ = ("line", "omit_drafts")
    LINE_FIELD_NUMBER: _ClassVar[int]
    OMIT_DRAFTS_FIELD_NUMBER: _ClassVar[int]
    line: _line_spec_pb2.LineSpec
    omit_drafts: bool
    def __init__(self, line: _Optional[_Union[_line_spec_pb2.LineSpec, _Mapping]] = ..., omit_drafts: _Optional[bool] = ...) -> None: ...

class SpeakStreamResponse(_message.Message):
    __slots__ = ("accepted", "draft", "final")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DRAFT_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    accepted: _line_pb2.LineAccepted
    draft: _line_pb2.LineDraft
    final: _line_pb2.Line
    def __init__(self, accepted: _Optional[_Union[_line_pb2.LineAccepted, _Mapping]] = ..., draft: _Optional[_Union[_line_pb2.LineDraft, _Mapping]] = ..., final: _Optional[_Union[_line_pb2.Line, _Mapping]] = ...) -> None: ...
