"""Images: a file or a URL becomes something that can be sent at once, of known size and sum.

A BMC wants the upload to begin 10 s after it gave the handle (4a.2), and the number of raw bytes in advance. Both
are found out before, once for each image, and kept beside the cached file.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from providers.deadline import Deadline
from providers.errors import DeadlineError, FlashError, RefusedError, UserError
from providers.turingpi.download import download
from providers.turingpi.progress import Meter, Phase, Progress, Watch, ignore
from providers.turingpi.unpack import raw_chunks, sha256_of

FETCH_LIMIT_S = 3600.0
LOCK_INTERVAL_S = 0.1


@dataclass(frozen=True)
class Image:
    """An image that can be sent at once.

    Attributes:
        path: the file, packed or raw.
        sha256: of that file.
        raw_bytes: how many bytes it unpacks to.
        raw_sha256: of those.
    """

    path: Path
    sha256: str
    raw_bytes: int
    raw_sha256: str

    def chunks(self) -> Iterator[bytes]:
        """The raw bytes in order, at most 1 MiB at a time. Close it when it is not read to its end.

        Raises:
            FlashError: the file was damaged or changed since it was measured.
        """
        return raw_chunks(self.path)


def cache_folder() -> Path:
    """Where images are kept: `${HOMELAB_CACHE:-${XDG_CACHE_HOME:-~/.cache}/homelab}/images`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("HOMELAB_CACHE") or f"{base}/homelab") / "images"


def fetch(
    source: str,
    sha256: str | None = None,
    progress: Watch = ignore,
    deadline: Deadline | None = None,
    cache: Path | None = None,
) -> Image:
    """An image from a file or an http(s) URL, downloaded at most once however many ask at the same time.

    Args:
        source: a path, or a file, http or https URL.
        sha256: of the file as it is published (packed), as hex. Without it, the sum of the first download is kept
            and later downloads of the same URL have to have it too.
        progress: told about the download and the unpacking.
        deadline: for all of it; FETCH_LIMIT_S seconds when left out.
        cache: the folder to keep it in; `cache_folder()` when left out.

    Raises:
        UserError: the source or the sum makes no sense, or there is no such file.
        FlashError: the image is damaged or not the expected one.
        UnreachableError: it can't be downloaded now.
        RefusedError: the server has no such image, or the disk is full.
        DeadlineError: it took too long.
    """
    wanted = _checked_sum(sha256)
    deadline = deadline or Deadline(FETCH_LIMIT_S)
    folder = cache or cache_folder()
    with _no_space(folder):
        folder.mkdir(parents=True, exist_ok=True)
        scheme = urlsplit(source).scheme.lower()
        if scheme in ("http", "https"):
            name = hashlib.sha256(source.encode()).hexdigest()[:16] if wanted is None else wanted[:32]
            with _alone(folder / f"{name}.lock", deadline, progress):
                return _fetched(source, wanted, folder / name, progress, deadline)
        path = _local(source, scheme)
        name = "file-" + hashlib.sha256(str(path).encode()).hexdigest()[:16]
        with _alone(folder / f"{name}.lock", deadline, progress):
            return _file(path, wanted, folder / f"{name}.json", progress)


def _checked_sum(sha256: str | None) -> str | None:
    if not sha256:
        return None
    digits = sha256.strip().lower().removeprefix("sha256:")
    if len(digits) != 64 or set(digits) - set("0123456789abcdef"):
        raise UserError(f"{sha256!r}: not a SHA-256 of an image; write its 64 hex digits")
    return digits


def _local(source: str, scheme: str) -> Path:
    if scheme not in ("", "file"):
        raise UserError(f"{source}: an image is a path, or a file, http or https URL")
    path = Path(unquote(urlsplit(source).path) if scheme else source).expanduser().resolve()
    if not path.is_file():
        raise UserError(f"{path}: no such image file")
    return path


def _fetched(url: str, wanted: str | None, file: Path, progress: Watch, deadline: Deadline) -> Image:
    """The image behind a URL; a damaged download is thrown away and made once more."""
    record = file.with_suffix(".json")
    for last in (False, True):
        known = _known(file, record)
        if known is not None:
            return known
        got = download(url, file, deadline, progress)
        first_seen = _read(record).get("sha256")
        try:
            _compare(url, got, wanted, first_seen, record)
            return _measured(file, got, record, progress)
        except FlashError:
            file.unlink(missing_ok=True)
            if last:
                raise
    raise FlashError(f"{url}: no image")  # unreachable: the second round returns or raises


def _compare(url: str, got: str, wanted: str | None, first_seen: str | None, record: Path) -> None:
    if wanted is not None and got != wanted:
        raise FlashError(
            f"{url}: what was downloaded has sha256 {got}, and the settings expect {wanted}; correct the wrong one"
        )
    if wanted is None and first_seen is not None and got != first_seen:
        raise FlashError(
            f"{url}: what was downloaded has sha256 {got}, and {first_seen} when it was first seen; if the image was "
            f"meant to change, remove {record} or write the new sha256 into the settings"
        )


def _file(path: Path, wanted: str | None, record: Path, progress: Watch) -> Image:
    known = _known(path, record)
    if known is None:
        known = _measured(path, sha256_of(path), record, progress)
    if wanted is not None and known.sha256 != wanted:
        raise FlashError(f"{path}: has sha256 {known.sha256}, and the settings expect {wanted}; correct the wrong one")
    return known


def _known(file: Path, record: Path) -> Image | None:
    """What was measured before, when the file is still the same one."""
    kept = _read(record)
    try:
        if kept.get("stamp") == _stamp(file):
            return Image(file, str(kept["sha256"]), int(kept["raw_bytes"]), str(kept["raw_sha256"]))
    except (OSError, KeyError, TypeError, ValueError):
        return None
    return None


def _measured(file: Path, sha256: str, record: Path, progress: Watch) -> Image:
    """Unpack once to learn size and sum, and keep them."""
    digest, size = hashlib.sha256(), 0
    stamp = _stamp(file)
    meter = Meter(progress, Phase.PREPARING, 0, time.monotonic)
    for chunk in raw_chunks(file):
        digest.update(chunk)
        size += len(chunk)
        meter.at(size)
    if size == 0:
        raise FlashError(f"{file}: is empty; it is no image")
    image = Image(file, sha256, size, digest.hexdigest())
    _write(record, {"stamp": stamp, "sha256": sha256, "raw_bytes": size, "raw_sha256": image.raw_sha256})
    return image


def _stamp(file: Path) -> list[int]:
    found = file.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def _read(record: Path) -> dict[str, Any]:
    try:
        value = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write(record: Path, value: dict[str, Any]) -> None:
    fresh = record.with_suffix(".new")
    fresh.write_text(json.dumps(value), encoding="utf-8")
    fresh.replace(record)


@contextlib.contextmanager
def _alone(lock: Path, deadline: Deadline, progress: Watch) -> Iterator[None]:
    """Hold a lock file; each holder opens it anew, so that threads keep each other out as processes do."""
    with lock.open("a") as file:
        while not _locked(file.fileno()):
            if deadline.expired:
                raise DeadlineError(
                    f"{lock}: another download of this image did not end within {deadline.seconds:.0f} s"
                )
            progress(Progress(Phase.DOWNLOADING, note="waiting for another download of the same image"))
            deadline.sleep(LOCK_INTERVAL_S)
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _no_space(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RefusedError(
            f"{folder}: the image can't be kept there ({error}); make room, or set HOMELAB_CACHE to another folder"
        ) from error
