"""Disk images of the twin: small files that carry what a boot loader would find in a real one.

Layout: 16 bytes magic, 4 bytes big-endian length, a JSON header of that length, then the body. The header has
`schematic`, `version`, `arch`, `overlay`, `body_bytes` and `sha256` (of the body); the body is pseudo-random with
gaps and follows from the header alone, so the same image is made again byte for byte. One wrong or missing byte, and
a module won't boot it.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass

MAGIC = b"TWIN-TALOS-IMAGE"
_LENGTH_BYTES = 4
_CHUNK_BYTES = 1 << 16
_ENTROPY = 4  # a real image packs to less than a quarter, too


@dataclass(frozen=True)
class Image:
    """What an image holds: the Image Factory's schematic, Talos' version, and for which module it was made."""

    schematic: str
    version: str
    arch: str = "arm64"
    overlay: str = ""
    sha256: str = ""  # of the body


def _body(seed: str, size: int) -> Iterator[bytes]:
    source = random.Random(seed)
    for start in range(0, size, _CHUNK_BYTES):
        chunk = source.randbytes(_CHUNK_BYTES // _ENTROPY).ljust(_CHUNK_BYTES, b"\0")
        yield chunk[: size - start]


def make(image: Image, body_bytes: int) -> Iterator[bytes]:
    """The bytes of an image, in chunks; they follow from the arguments alone."""
    seed = f"{image.schematic}/{image.version}/{image.arch}"
    digest = hashlib.sha256()
    for chunk in _body(seed, body_bytes):
        digest.update(chunk)
    header = {**asdict(image), "sha256": digest.hexdigest(), "body_bytes": body_bytes}
    text = json.dumps(header, sort_keys=True).encode()
    yield MAGIC + len(text).to_bytes(_LENGTH_BYTES, "big") + text
    yield from _body(seed, body_bytes)


class Reader:
    """Takes the bytes that were written to a disk, in order, and says what a boot loader will find there."""

    def __init__(self) -> None:
        self._head = b""
        self._image: Image | None = None
        self._left = 0
        self._digest = hashlib.sha256()
        self._bad = False

    def feed(self, data: bytes) -> None:
        """The next bytes; memory stays bounded whatever comes."""
        if self._bad:
            return
        if self._image is None:
            self._head += data
            data = self._open()
        if self._image is not None and data:
            part = data[: self._left]
            self._digest.update(part)
            self._left -= len(part)

    def result(self) -> Image | None:
        """The image, or None when what was written doesn't boot."""
        if self._image is None or self._left or self._digest.hexdigest() != self._image.sha256:
            return None
        return self._image

    def _open(self) -> bytes:
        start = len(MAGIC) + _LENGTH_BYTES
        if self._head[: len(MAGIC)] != MAGIC[: len(self._head)]:
            self._bad, self._head = True, b""
        if self._bad or len(self._head) < start:
            return b""
        end = start + int.from_bytes(self._head[len(MAGIC) : start], "big")
        if end > _CHUNK_BYTES:
            self._bad, self._head = True, b""
            return b""
        return self._parse(start, end) if len(self._head) >= end else b""

    def _parse(self, start: int, end: int) -> bytes:
        try:
            header = json.loads(self._head[start:end])
            self._left = int(header.pop("body_bytes"))
            self._image = Image(**header)
        except (ValueError, KeyError, TypeError):
            self._bad = True
        rest, self._head = self._head[end:], b""
        return b"" if self._bad else rest
