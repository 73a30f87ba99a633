"""Reading messages off the wire, so that bytes that cannot be read are the caller's fault and say where."""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from dlm_runtime.dialogue.amount import Amount
from dlm_runtime.errors import RequestError

M = TypeVar("M", bound=Message)
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def parse(kind: type[M], data: bytes) -> M:
    """Read a message. Raises `RequestError` naming the field that is not UTF-8, else the message that cannot be read."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        found = find_invalid_utf8(kind.DESCRIPTOR, data)
        if found is not None:
            path, value = found
            raise RequestError(path, value[:40], "encode text as UTF-8") from error
        name = kind.DESCRIPTOR.full_name
        raise RequestError(kind.DESCRIPTOR.name, Amount(len(data), "bytes"), f"these bytes are not a {name}; send one") from error


def find_invalid_utf8(descriptor: Any, data: bytes, prefix: str = "") -> tuple[str, bytes] | None:
    """Path and bytes of the first text field that is not UTF-8, or None when there is none or `data` is broken before it.

    `descriptor` is a message's `DESCRIPTOR`; its class depends on how protobuf was built.
    """
    position = 0
    counts: dict[int, int] = {}
    try:
        while position < len(data):
            tag, position = _varint(data, position)
            end = position + _payload_length(tag & 7, data, position)
            field = descriptor.fields_by_number.get(tag >> 3)
            if tag & 7 == _LENGTH:
                length, position = _varint(data, position)
                end = position + length
                if end > len(data):
                    return None
                index = counts[tag >> 3] = counts.get(tag >> 3, -1) + 1
                found = _check(field, data[position:end], prefix, index) if field is not None else None
                if found is not None:
                    return found
            position = end
    except (IndexError, ValueError):
        return None
    return None


def _check(field: Any, payload: bytes, prefix: str, index: int) -> tuple[str, bytes] | None:
    path = f"{prefix}{field.name}[{index}]" if field.is_repeated else f"{prefix}{field.name}"
    if field.message_type is not None:
        return find_invalid_utf8(field.message_type, payload, f"{path}.")
    if field.type == FieldDescriptor.TYPE_STRING:
        try:
            payload.decode("utf-8")
        except UnicodeDecodeError:
            return path, payload
    return None


def _payload_length(wire_type: int, data: bytes, position: int) -> int:
    if wire_type == _VARINT:
        return _varint(data, position)[1] - position
    if wire_type in (_FIXED64, _FIXED32):
        return 8 if wire_type == _FIXED64 else 4
    if wire_type == _LENGTH:
        return 0  # its length stands in front of it
    raise ValueError(f"{wire_type=} is not in use")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Value and the position behind it. Raises `IndexError` at the end of `data`, `ValueError` when it has more than ten bytes."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a varint has ten bytes at most")
