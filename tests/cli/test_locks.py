"""4d.46: the lock of a killed run is released on this host, and on no other."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cli import locks
from providers.errors import RefusedError


def lock(backend: Path, pid: int, host: str = "here", stack: str = "twin") -> Path:
    """A lock file as the engine writes it."""
    path = backend / ".pulumi" / "locks" / "organization" / "homelab" / stack / f"{pid}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"pid": pid, "username": "ann", "hostname": host, "timestamp": "2026-01-02T03:04:05Z"}
    path.write_text(json.dumps(content))
    return path


def nobody(_: int) -> bool:
    return False


def everybody(_: int) -> bool:
    return True


def test_a_lock_whose_process_is_gone_is_released_with_a_word(tmp_path: Path) -> None:
    path = lock(tmp_path, 4711)
    path.with_name(f"{path.name}.attrs").touch()  # beside each object, the backend keeps its attributes
    said = locks.release_stale(tmp_path, "twin", alive=nobody, host="here")
    assert list(path.parent.iterdir()) == []
    assert said == [
        "released the lock that an ended run had left: process 4711 of ann on here since 2026-01-02T03:04:05Z"
    ]


def test_a_living_holder_is_named_and_nothing_is_removed(tmp_path: Path) -> None:
    paths = [lock(tmp_path, 1), lock(tmp_path, 2)]
    with pytest.raises(RefusedError, match="process 1 of ann on here"):
        locks.release_stale(tmp_path, "twin", alive=lambda pid: pid == 1, host="here")
    assert all(path.exists() for path in paths)


def test_another_hosts_lock_is_never_ours_to_judge(tmp_path: Path) -> None:
    path = lock(tmp_path, 4711, host="laptop")
    with pytest.raises(RefusedError, match=f"on laptop .*rm {path}"):
        locks.release_stale(tmp_path, "twin", alive=nobody, host="here")
    assert path.exists()


def test_a_damaged_lock_is_somebodys(tmp_path: Path) -> None:
    lock(tmp_path, 1).write_text("{")
    with pytest.raises(RefusedError, match="somebody on an unknown host"):
        locks.release_stale(tmp_path, "twin", alive=nobody, host="here")


def test_another_stacks_lock_is_left_alone(tmp_path: Path) -> None:
    path = lock(tmp_path, 1, stack="homelab")
    assert locks.release_stale(tmp_path, "twin", alive=everybody, host="here") == []
    assert path.exists()


def test_no_backend_no_lock(tmp_path: Path) -> None:
    assert locks.release_stale(tmp_path / "none", "twin") == []


def test_an_ended_process_and_a_reused_number_are_not_the_engine(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not locks.is_pulumi(ended.pid)
    assert not locks.is_pulumi(os.getpid())  # this is a test run, not the engine
    path = lock(tmp_path, ended.pid, host=socket.gethostname())
    assert locks.release_stale(tmp_path, "twin")
    assert not path.exists()


def test_a_running_engine_is_seen_by_its_name(tmp_path: Path) -> None:
    engine = tmp_path / "pulumi"
    engine.write_text("#!/bin/sh\necho runs\nread _\n")
    engine.chmod(0o755)
    with subprocess.Popen([engine], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()  # the name is set when its first line runs
        lock(tmp_path, process.pid, host=socket.gethostname())
        with pytest.raises(RefusedError, match=f"process {process.pid} of ann"):
            locks.release_stale(tmp_path, "twin")


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("file:///a/b?metadata=skip", Path("/a/b")),
        ("s3://bucket", None),
        ("", None),
        ("file://~/x", Path("~/x").expanduser()),
    ],
)
def test_where_the_file_backend_is(url: str, folder: Path | None) -> None:
    assert locks.backend_folder({"PULUMI_BACKEND_URL": url}) == folder
