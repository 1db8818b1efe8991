"""Downloads that are cut, resumed and shared; packed images; sums."""

import gzip
import hashlib
import http.server
import json
import lzma
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import zstandard

from providers.deadline import Deadline
from providers.errors import DeadlineError, FlashError, HomelabError, RefusedError, UnreachableError, UserError
from providers.turingpi import download
from providers.turingpi.image import fetch
from providers.turingpi.progress import Phase, Progress

RAW = random.Random(1).randbytes(900_000) + bytes(3_000_000)


@dataclass
class Site:
    """A server whose faults are switched."""

    url: str = ""
    body: bytes = b""
    etag: str = '"v1"'
    cut_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    knows_ranges: bool = True


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(download, "PAUSE_S", 0.01)
    state = Site(body=lzma.compress(RAW, preset=0))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.ranges.append(self.headers.get("Range", ""))
            if state.statuses:
                self.send_response(state.statuses.pop(0))
                self.end_headers()
                return
            start = 0
            asked = self.headers.get("Range")
            if asked and state.knows_ranges and self.headers.get("If-Range") == state.etag:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.body) - 1}/{len(state.body)}")
            self.send_header("ETag", state.etag)
            self.send_header("Content-Length", str(len(state.body) - start))
            self.end_headers()
            self.wfile.write(state.body[start : start + state.cut_after.pop(0) if state.cut_after else None])

        def log_message(self, *words: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.105.251.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"http://127.105.251.1:{server.server_port}/metal-arm64.raw.xz"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_cut_download_goes_on_where_it_was_cut(site: Site, tmp_path: Path) -> None:
    site.cut_after = [300_000, 200_000]
    image = fetch(site.url, sha256(site.body), cache=tmp_path)
    assert site.ranges == ["", "bytes=300000-", "bytes=500000-"]
    assert (image.raw_bytes, image.raw_sha256) == (len(RAW), sha256(RAW))
    assert b"".join(image.chunks()) == RAW


@pytest.mark.parametrize("change", ["etag", "ranges"])
def test_a_file_that_changed_or_a_server_without_ranges_starts_anew(site: Site, tmp_path: Path, change: str) -> None:
    site.statuses = []
    site.cut_after = [300_000]
    site.knows_ranges = change != "ranges"
    first = site.body

    def changed(step: Progress) -> None:
        if change == "etag" and step.phase is Phase.DOWNLOADING and not site.cut_after:
            site.etag = '"v2"'

    assert fetch(site.url, sha256(first), changed, cache=tmp_path).raw_bytes == len(RAW)


def test_it_is_downloaded_once_for_many_at_the_same_time(site: Site, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda _: fetch(site.url, cache=tmp_path), range(8)))
    assert len(set(images)) == 1
    assert len(site.ranges) == 1


def test_processes_share_a_download_too(site: Site, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from providers.turingpi.image import fetch"
    code += "; print(fetch(sys.argv[1], cache=Path(sys.argv[2])).raw_sha256)"
    command = [sys.executable, "-c", code, site.url, str(tmp_path)]
    root = Path(__file__).parents[3]
    runs = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {run.communicate()[0].strip() for run in runs} == {sha256(RAW)}
    assert len(site.ranges) == 1


def test_a_wrong_sum_is_an_error_after_a_second_download(site: Site, tmp_path: Path) -> None:
    with pytest.raises(FlashError, match="the settings expect"):
        fetch(site.url, "0" * 64, cache=tmp_path)
    assert len(site.ranges) == 2
    assert not list(tmp_path.glob("*.part"))


def test_what_was_first_seen_is_expected_again(site: Site, tmp_path: Path) -> None:
    image = fetch(site.url, cache=tmp_path)
    image.path.unlink()
    site.body = lzma.compress(RAW + b"more", preset=0)
    with pytest.raises(FlashError, match="when it was first seen"):
        fetch(site.url, cache=tmp_path)


def test_a_damaged_cache_is_noticed_and_made_again(site: Site, tmp_path: Path) -> None:
    image = fetch(site.url, sha256(site.body), cache=tmp_path)
    image.path.write_bytes(b"\0" * 1000)
    assert fetch(site.url, sha256(site.body), cache=tmp_path).raw_sha256 == sha256(RAW)


def test_a_server_in_trouble_is_asked_again_and_a_missing_image_is_not(site: Site, tmp_path: Path) -> None:
    site.statuses = [500, 503]
    fetch(site.url, cache=tmp_path)
    site.statuses = [404]
    with pytest.raises(RefusedError, match="404"):
        fetch(site.url + "2", cache=tmp_path)
    site.statuses = [500] * 20
    with pytest.raises(UnreachableError, match="can't be downloaded"):
        fetch(site.url + "3", cache=tmp_path)
    site.statuses = [500] * 20
    with pytest.raises(DeadlineError):
        fetch(site.url + "4", cache=tmp_path, deadline=Deadline(0))


@pytest.mark.parametrize("kind", ["raw", "xz", "zst", "gz", "two-streams"])
def test_local_files_of_every_kind(tmp_path: Path, kind: str) -> None:
    packed = {
        "raw": RAW,
        "xz": lzma.compress(RAW),
        "zst": zstandard.compress(RAW),
        "gz": gzip.compress(RAW),
        "two-streams": lzma.compress(RAW[:500_000]) + bytes(8) + lzma.compress(RAW[500_000:]),
    }[kind]
    file = tmp_path / f"an image.{kind}"
    file.write_bytes(packed)
    image = fetch(file.as_uri(), sha256(packed), cache=tmp_path / "cache")
    assert (image.raw_bytes, image.raw_sha256, image.sha256) == (len(RAW), sha256(RAW), sha256(packed))
    assert max(len(chunk) for chunk in image.chunks()) <= 1 << 20


@pytest.mark.parametrize(
    "packed", [lzma.compress(RAW), zstandard.compress(RAW), gzip.compress(RAW)], ids=["xz", "zst", "gz"]
)
@pytest.mark.parametrize("lost", [1, 3, 100, 100_000])
def test_a_file_that_is_cut_off_is_an_error(tmp_path: Path, packed: bytes, lost: int) -> None:
    (tmp_path / "image").write_bytes(packed[:-lost])
    with pytest.raises(FlashError, match="is damaged"):
        fetch(str(tmp_path / "image"), cache=tmp_path / "cache")


def test_what_is_measured_is_kept(tmp_path: Path) -> None:
    (tmp_path / "image.raw").write_bytes(RAW)
    fetch(str(tmp_path / "image.raw"), cache=tmp_path)
    seen: list[Progress] = []
    fetch(str(tmp_path / "image.raw"), cache=tmp_path, progress=seen.append)
    assert seen == []
    record = json.loads(next(tmp_path.glob("file-*.json")).read_text())
    assert record["raw_bytes"] == len(RAW)


@pytest.mark.parametrize("source", ["ftp://x/y", "/no/such/file"])
def test_sources_that_make_no_sense(tmp_path: Path, source: str) -> None:
    with pytest.raises(UserError):
        fetch(source, cache=tmp_path)
    with pytest.raises(HomelabError, match="64 hex digits"):
        fetch(source, "abc", cache=tmp_path)


def test_memory_stays_bounded_whatever_the_size(tmp_path: Path) -> None:
    packer = lzma.LZMACompressor(preset=1)
    block = random.Random(2).randbytes(1 << 12) * 256
    with (tmp_path / "big.xz").open("wb") as file:
        for _ in range(200):
            file.write(packer.compress(block))
        file.write(packer.flush())
    code = """
import resource, sys
from pathlib import Path
from providers.turingpi.image import fetch
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
idle = peak()
image = fetch(sys.argv[1], cache=Path(sys.argv[2]))
assert sum(map(len, image.chunks())) == 200 << 20
print((peak() - idle) >> 10)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "big.xz"), str(tmp_path / "cache")]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True)
    assert int(done.stdout) < 64, done.stderr
