"""Downloads that go on where they were cut."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import httpx2

from providers.deadline import Deadline
from providers.errors import DeadlineError, RefusedError, UnreachableError
from providers.turingpi.progress import Meter, Phase, Watch
from providers.turingpi.unpack import sha256_of

STALL_S = 60.0  # without a byte
CONNECT_S = 20.0
USELESS_TRIES = 5  # in a row that brought no byte
PAUSE_S = 0.5  # before the second try, doubled for each further one


class _AgainError(Exception):
    """This try failed, the next one may not."""


def download(url: str, file: Path, deadline: Deadline, progress: Watch) -> str:
    """Fetch `url` into `file`, which appears whole or not at all; what is there of an earlier try is used.

    Returns:
        The SHA-256 of the file.

    Raises:
        RefusedError: the server has no such thing, or does not give it.
        UnreachableError: it fails again and again without one byte more.
        DeadlineError: it took too long.
    """
    part = file.with_suffix(".part")
    useless = 0
    while True:
        before = _size(part)
        try:
            _try(url, part, deadline, progress)
            break
        except _AgainError as error:
            useless = 0 if _size(part) > before else useless + 1
            if deadline.expired:
                raise DeadlineError(f"{url}: not downloaded within {deadline.seconds:.0f} s ({error})") from error
            if useless >= USELESS_TRIES:
                raise UnreachableError(f"{url}: can't be downloaded ({error}); run this again to go on") from error
            deadline.sleep(PAUSE_S * 2**useless)
    sha256 = sha256_of(part)
    _note(part).unlink(missing_ok=True)
    part.replace(file)
    return sha256


def _try(url: str, part: Path, deadline: Deadline, progress: Watch) -> None:
    timeout = httpx2.Timeout(min(STALL_S, deadline.remaining + 0.01), connect=min(CONNECT_S, deadline.remaining + 0.01))
    with (
        _again(),
        httpx2.Client(timeout=timeout, follow_redirects=True) as client,
        client.stream("GET", url, headers=_resume(url, part)) as response,
    ):
        start = _start(url, response, part)
        if start is None:
            return
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            _keep_validator(url, response, part)
            _copy(response, file, start, deadline, progress)


def _copy(response: httpx2.Response, file: BinaryIO, start: int, deadline: Deadline, progress: Watch) -> None:
    length = response.headers.get("content-length", "")
    total = start + int(length) if length.isdigit() else 0
    meter, done = Meter(progress, Phase.DOWNLOADING, total, time.monotonic), start
    for data in response.iter_raw():
        file.write(data)
        done += len(data)
        meter.at(done)
        if deadline.expired:
            raise _AgainError("the time is up")
    if total and done != total:
        raise _AgainError(f"{done} of {total} bytes came")


def _start(url: str, response: httpx2.Response, part: Path) -> int | None:
    """Where this answer's bytes belong, or None when all are there already."""
    status, have = response.status_code, _size(part)
    if status == 200:
        return 0
    if status == 206:
        match = re.match(r"bytes (\d+)-", response.headers.get("content-range", ""))
        if match and int(match[1]) == have:
            return have
    if status in (206, 416):
        if have and response.headers.get("content-range") == f"bytes */{have}" and _note(part).exists():
            return None
        part.unlink(missing_ok=True)
        raise _AgainError("the server can't go on where it was cut; from the start")
    if status in (408, 425, 429) or status >= 500:
        raise _AgainError(f"HTTP status {status}")
    raise RefusedError(
        f"{url}: the server answers with HTTP status {status}; check the image's version and schematic, or its URL"
    )


def _resume(url: str, part: Path) -> dict[str, str]:
    """Ask for the rest only if it is still the same thing; without a validator there is no way to know."""
    headers = {"Accept-Encoding": "identity"}
    try:
        note = json.loads(_note(part).read_text(encoding="utf-8"))
        validator = note["validator"] if note["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        validator = None
    if validator and _size(part):
        headers |= {"Range": f"bytes={_size(part)}-", "If-Range": str(validator)}
    return headers


def _keep_validator(url: str, response: httpx2.Response, part: Path) -> None:
    etag = response.headers.get("etag", "")
    validator = response.headers.get("last-modified", "") if not etag or etag.startswith("W/") else etag
    _note(part).write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")


def _note(part: Path) -> Path:
    return part.with_suffix(".part.json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


@contextmanager
def _again() -> Iterator[None]:
    try:
        yield
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.TooManyRedirects) as error:
        raise RefusedError(f"the image's URL can't be followed ({error})") from error
    except httpx2.HTTPError as error:
        raise _AgainError(str(error) or type(error).__name__) from error
