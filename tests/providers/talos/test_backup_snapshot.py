"""Reading snapshots: the same numbers as etcd's own tool on real databases, and an error for whatever is damaged."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib import request

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers.errors import ProtocolError, UserError
from providers.talos import snapshot
from tests.ports import free_port
from tools import paths

pytestmark = [
    pytest.mark.skipif(not paths.servers_bin().exists(), reason="make tools builds the servers"),
    pytest.mark.timeout(120),
]
HOST = "127.121.1.1"


class Etcd:
    """One member of its own, spoken to through its JSON gateway."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        client, peer = free_port(HOST), free_port(HOST)
        self._url = f"http://{HOST}:{client}"
        flags = {
            "data-dir": folder / "data", "log-level": "error", "unsafe-no-fsync": "true",
            "listen-client-urls": self._url, "advertise-client-urls": self._url,
            "listen-peer-urls": f"http://{HOST}:{peer}", "initial-advertise-peer-urls": f"http://{HOST}:{peer}",
            "initial-cluster": f"default=http://{HOST}:{peer}",
        }  # fmt: skip
        command = [str(paths.servers_bin() / "etcd"), *(f"--{key}={value}" for key, value in flags.items())]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + 30
        while True:
            try:
                self.call("kv/range", key=b"x")
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
            else:
                return

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def call(self, path: str, **fields: Any) -> dict[str, Any]:
        body = {k: base64.b64encode(v).decode() if isinstance(v, bytes) else v for k, v in fields.items()}
        asked = request.Request(f"{self._url}/v3/{path}", json.dumps(body).encode())
        with request.urlopen(asked, timeout=10) as answer:
            return dict(json.load(answer))

    def put(self, key: str, value: bytes) -> None:
        self.call("kv/put", key=key.encode(), value=value)

    def delete(self, key: str) -> None:
        self.call("kv/deleterange", key=key.encode())

    def compact(self) -> None:
        revision = self.call("kv/put", key=b"compacted", value=b"")["header"]["revision"]  # twice the same is refused
        self.call("kv/compaction", revision=revision, physical=True)

    def save(self) -> Path:
        self._count += 1
        path = self._folder / f"{self._count}.db"
        tool(["etcdctl", "--endpoints", self._url, "snapshot", "save", str(path)])
        return path


def tool(command: list[str]) -> str:
    program = str(paths.servers_bin() / command[0])
    return subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=30, check=True).stdout


def status(path: Path) -> dict[str, Any]:
    return dict(json.loads(tool(["etcdutl", "snapshot", "status", str(path), "-w", "json"])))


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    started = Etcd(tmp_path_factory.mktemp("etcd"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def full(etcd: Etcd) -> Path:
    """A database with branch pages, overflow pages and deletions."""
    for number in range(400):
        etcd.put(f"/registry/things/{number:04}", b"v" * (number * 37 % 9000))
    for number in range(0, 400, 7):
        etcd.delete(f"/registry/things/{number:04}")
    return etcd.save()


def test_an_empty_database(etcd: Etcd) -> None:
    found = snapshot.read(etcd.save())
    assert found.keys == 0


KEYS = st.sampled_from([f"/k/{number}" for number in range(12)])
STEPS = st.one_of(
    st.tuples(st.just("put"), KEYS, st.integers(0, 20_000)),
    st.tuples(st.just("delete"), KEYS, st.just(0)),
    st.tuples(st.just("many"), KEYS, st.integers(1, 60)),
    st.tuples(st.just("compact"), KEYS, st.just(0)),
)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEPS, min_size=1, max_size=12))
def test_the_numbers_are_those_of_etcds_own_tool(etcd: Etcd, steps: list[tuple[str, str, int]]) -> None:
    for what, key, size in steps:
        if what == "put":
            etcd.put(key, os.urandom(size))
        elif what == "delete":
            etcd.delete(key)
        elif what == "compact":
            etcd.compact()
        else:
            for number in range(size):
                etcd.put(f"{key}/{number}", b"x" * number)
    path = etcd.save()
    theirs, ours = status(path), snapshot.read(path)
    assert (ours.revision, ours.keys) == (theirs["revision"], theirs["totalKey"])
    assert ours.size_bytes == theirs["totalSize"] + 32
    assert ours.sha256 == hashlib.sha256(path.read_bytes()[:-32]).hexdigest()


def test_values_are_what_was_written(full: Path) -> None:
    found = snapshot.read(full)
    assert bytes(found.values[b"/registry/things/0398"]) == b"v" * (398 * 37 % 9000)
    assert b"/registry/things/0007" not in found.values
    assert status(full)["totalKey"] == found.keys


def with_digest(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()


@pytest.mark.parametrize("size", [0, 31, 32, 4096, 4096 + 32])
def test_a_truncated_snapshot(full: Path, tmp_path: Path, size: int) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(full.read_bytes()[:size])
    with pytest.raises(ProtocolError, match=r"cut short|damaged"):
        snapshot.read(path)


def test_a_shortened_database_with_a_fitting_checksum(full: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(with_digest(full.read_bytes()[: -32 - 8192]))
    with pytest.raises(ProtocolError, match="larger than its file"):
        snapshot.read(path)


def test_a_flipped_bit_anywhere(full: Path, tmp_path: Path) -> None:
    whole, path = bytearray(full.read_bytes()), tmp_path / "s.db"
    for at in random.Random(4).sample(range(len(whole)), 25):
        whole[at] ^= 1
        path.write_bytes(whole)
        with pytest.raises(ProtocolError, match="damaged"):
            snapshot.read(path)
        whole[at] ^= 1


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(noise=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=40))
def test_nonsense_with_a_fitting_checksum_ends_in_an_error_or_a_snapshot(
    full: Path, tmp_path: Path, noise: list[tuple[int, int]]
) -> None:
    """A checksum only says that nothing changed on the way; what was damaged before must not hang or crash."""
    whole, path = bytearray(full.read_bytes()[:-32]), tmp_path / "s.db"
    for at, byte in noise:
        whole[at % min(len(whole), 65536)] = byte
    path.write_bytes(with_digest(bytes(whole)))
    try:
        snapshot.read(path)
    except ProtocolError:
        return


@pytest.mark.parametrize("body", [b"\0" * 8192, b"\1" * 8192, b"SQLite format 3\0" + b"\0" * 8176], ids=range(3))
def test_another_kind_of_file(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(with_digest(body))
    with pytest.raises(ProtocolError, match="not a usable etcd snapshot: not an etcd database"):
        snapshot.read(path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        snapshot.read(tmp_path / "none.db")
