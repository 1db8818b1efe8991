"""The few DNS messages that mDNS is made of (RFC 1035, 4; RFC 6762, 18)."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

A, PTR, TXT, SRV, ANY = 1, 12, 16, 33, 255
_INTERNET = 1
_OURS_ALONE = 0x8000  # cache-flush in a record, unicast-wanted in a question
_SHARED = {PTR}  # several hosts have such a record
_ANSWER = 0x8400  # response, authoritative


class Malformed(Exception):
    """Not a DNS message."""


@dataclass(frozen=True)
class Question:
    """A name, without its last dot, and the kind of record that is wanted."""

    name: str
    kind: int


@dataclass(frozen=True)
class Record:
    """A record of a name; `data` is as it stands on the wire."""

    name: str
    kind: int
    data: bytes
    ttl_s: int


@dataclass(frozen=True)
class Message:
    """A message's questions and answers."""

    id: int
    questions: list[Question] = field(default_factory=list)
    answers: list[Record] = field(default_factory=list)


def name(text: str) -> bytes:
    """A name as it stands on the wire."""
    parts = [part.encode() for part in text.split(".")]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def service(port: int, host: str) -> bytes:
    """The data of an SRV record: priority and weight mean nothing here."""
    return struct.pack("!HHH", 0, 0, port) + name(host)


def query(question: Question) -> bytes:
    """A question to everybody."""
    return struct.pack("!6H", 0, 0, 1, 0, 0, 0) + _question(question)


def response(records: Sequence[Record], message_id: int = 0, questions: Sequence[Question] = ()) -> bytes:
    """An answer; to one who is no mDNS host it repeats the question and its id."""
    head = struct.pack("!6H", message_id, _ANSWER, len(questions), len(records), 0, 0)
    flush = 0 if questions else _OURS_ALONE
    return head + b"".join(map(_question, questions)) + b"".join(_record(record, flush) for record in records)


def parse(data: bytes) -> Message:
    """A message. Raises Malformed."""
    try:
        message_id, _, questions, answers, _, _ = struct.unpack_from("!6H", data)
        message, at = Message(message_id), 12
        for _ in range(questions):
            text, at = _name(data, at)
            kind, _ = struct.unpack_from("!HH", data, at)
            message.questions.append(Question(text, kind))
            at += 4
        for _ in range(answers):
            text, at = _name(data, at)
            kind, _, ttl_s, length = struct.unpack_from("!HHIH", data, at)
            message.answers.append(Record(text, kind, data[at + 10 : at + 10 + length], ttl_s))
            at += 10 + length
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from None
    return message


def _question(question: Question) -> bytes:
    return name(question.name) + struct.pack("!HH", question.kind, _INTERNET)


def _record(record: Record, flush: int) -> bytes:
    owned = 0 if record.kind in _SHARED else flush
    head = struct.pack("!HHIH", record.kind, _INTERNET | owned, record.ttl_s, len(record.data))
    return name(record.name) + head + record.data


def _name(data: bytes, at: int) -> tuple[str, int]:
    """The name at an offset, and where the rest begins; parts may be pointers back to earlier ones."""
    parts: list[str] = []
    after = 0
    for _ in range(128):
        length = data[at]
        if length & 0xC0 == 0xC0:
            after = after or at + 2
            at = struct.unpack_from("!H", data, at)[0] & 0x3FFF
        elif length:
            parts.append(data[at + 1 : at + 1 + length].decode())
            at += 1 + length
        else:
            return ".".join(parts), after or at + 1
    raise Malformed("a name without an end")
