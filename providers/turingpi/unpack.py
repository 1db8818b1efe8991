"""The raw bytes of an image file, decompressed on the way with bounded memory.

Decompression runs in a thread of its own, a few chunks ahead of whoever takes them: lzma and zstd let go of the
interpreter's lock while they work, so hashing and sending go on beside them.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import queue
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import zstandard

from providers.errors import FlashError

CHUNK_BYTES = 1 << 20
READ_BYTES = 256 << 10
AHEAD = 4  # chunks
XZ_MEMORY_BYTES = 80 << 20  # lets `xz -9` (64 MiB dictionary) through; what Talos ships needs 9 to 33 MiB
ZSTD_WINDOW_BYTES = 32 << 20  # above what any plain `zstd` level but --ultra -22 asks for
XZ_MAGIC, ZSTD_MAGIC, GZIP_MAGIC = b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08"
_ZSTD_HEADER_BYTES = 18


def raw_chunks(path: Path) -> Iterator[bytes]:
    """The raw bytes of a file, at most CHUNK_BYTES at a time. What it is packed with is seen from its first bytes.

    Raises:
        FlashError: the file is damaged, cut off, or can't be read.
    """
    return _ahead(lambda: _unpacked(path))


def sha256_of(path: Path, each: Callable[[int], None] = lambda _: None) -> str:
    """The SHA-256 of a file as it is; `each` is told the bytes read so far."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            digest.update(data)
            done += len(data)
            each(done)
    return digest.hexdigest()


def _unpacked(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            magic = file.read(len(XZ_MAGIC))
            file.seek(0)
            if magic == XZ_MAGIC:
                yield from _xz(file)
            elif magic[:4] == ZSTD_MAGIC:
                yield from _zstd(file)
            elif magic[:3] == GZIP_MAGIC:
                yield from _gzip(file)
            else:
                yield from iter(lambda: file.read(CHUNK_BYTES), b"")
    except (lzma.LZMAError, zstandard.ZstdError, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise FlashError(f"{path}: is damaged ({error}); remove it and run this again") from error
    except OSError as error:
        raise FlashError(f"{path}: can't be read ({error})") from error


def _xz(file: BinaryIO) -> Iterator[bytes]:
    """All streams of an .xz file, one after the other, with the zeros that may lie between them."""
    data = file.read(READ_BYTES)
    while data:
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)
        while not stream.eof:
            if stream.needs_input and not data:
                data = file.read(READ_BYTES)
                if not data:
                    raise EOFError("it ends in the middle")
            raw = stream.decompress(data, CHUNK_BYTES)
            data = b""
            if raw:
                yield raw
        data = _next_stream(stream.unused_data, file)


def _next_stream(data: bytes, file: BinaryIO) -> bytes:
    data = data.lstrip(b"\0") or file.read(READ_BYTES)
    while data and not data.lstrip(b"\0"):
        data = file.read(READ_BYTES)
    return data.lstrip(b"\0")


def _zstd(file: BinaryIO) -> Iterator[bytes]:
    _check_zstd_ends(file)
    unpack = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
    with unpack.stream_reader(file, read_size=READ_BYTES, read_across_frames=True, closefd=False) as reader:
        while raw := reader.read(CHUNK_BYTES):
            yield raw


def _gzip(file: BinaryIO) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file, mode="rb") as reader:
        while raw := reader.read(CHUNK_BYTES):
            yield raw


def _check_zstd_ends(file: BinaryIO) -> None:
    """Walk over the frames' block headers (RFC 8878): the library takes a file that is cut off for a whole one."""
    end = file.seek(0, 2)
    position = 0
    while position < end:
        file.seek(position)
        header = file.read(_ZSTD_HEADER_BYTES)
        position += _skippable(header) if header[1:4] == b"\x2a\x4d\x18" else _frame(file, position, header)
        if position > end:
            raise EOFError("it ends in the middle")
    file.seek(0)


def _skippable(header: bytes) -> int:
    return 8 + int.from_bytes(header[4:8], "little")


def _frame(file: BinaryIO, start: int, header: bytes) -> int:
    """The length of the frame at `start`."""
    position = start + zstandard.frame_header_size(header)
    while True:
        file.seek(position)
        block = int.from_bytes(_exactly(file, 3), "little")
        position += 3 + (1 if (block >> 1) & 3 == 1 else block >> 3)  # type 1 is one byte repeated
        if block & 1:
            return position - start + (4 if header[4] & 4 else 0)  # the frame's checksum, when it has one


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise EOFError("it ends in the middle")
    return data


def _ahead(source: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
    """`source`, made by a thread that is up to AHEAD chunks ahead; ends with whoever takes it."""
    chunks: queue.Queue[bytes | BaseException | None] = queue.Queue(AHEAD)
    stop = threading.Event()

    def put(item: bytes | BaseException | None) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                chunks.put(item, timeout=0.2)
                return

    def make() -> None:
        try:
            for chunk in source():
                put(chunk)
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:  # handed to the taker, whatever it is
            put(error)

    threading.Thread(target=make, name="unpack", daemon=True).start()
    try:
        while (item := chunks.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
