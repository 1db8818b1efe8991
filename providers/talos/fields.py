"""The fields of a protobuf message without its schema: enough to find one. Standard library only, as `bolt`."""

from __future__ import annotations

from collections.abc import Iterator

from providers.errors import ProtocolError

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_LONGEST = 10


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field; numbers as they are, everything else as bytes.

    Raises:
        ProtocolError: it is not a message.
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        size, at = _varint(message, at) if kind == _BYTES else ({_EIGHT: 8, _FOUR: 4}.get(kind, len(message)), at)
        if at + size > len(message):
            raise ProtocolError("not a message: a field ends outside it")
        yield tag >> 3, message[at : at + size]
        at += size


def child(message: memoryview, *path: int) -> memoryview | None:
    """The bytes at a path of field numbers; None where it ends early."""
    for number in path:
        found = [value for field, value in fields(message) if field == number and isinstance(value, memoryview)]
        if not found:
            return None
        message = found[-1]
    return message


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(message[at : at + _LONGEST]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise ProtocolError("not a message: a number without an end")
