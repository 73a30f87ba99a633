from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Turn(_message.Message):
    __slots__ = ("player_text", "line_text")
    PLAYER_TEXT_FIELD_NUMBER: _ClassVar[int]
    LINE_TEXT_FIELD_NUMBER: _ClassVar[int]
    player_text: str
    line_text: str
    def __init__(self, player_text: _Optional[str] = ..., line_text: _Optional[str] = ...) -> None: ...
