"""Proof 5: state in a folder and in a bucket of a real S3 server, two runs at once, a run that was cut off, a copy."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli import archive, state
from cli.archive import State
from cli.engine import Engine
from cli.interrupted import interrupted
from cli.stacks import Stack
from providers.errors import HomelabError, RefusedError
from tests.engine.bucket import Bucket
from tests.engine.sandbox import ROOT, Sandbox
from tools import paths

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

WAIT_S = 90.0
PROGRAM = """
import json, sys
from pathlib import Path
from cli.engine import Engine
from cli.stacks import Stack

folder, environment = sys.argv[1:]
sys.exit(Engine(Stack("toy", Path(folder)), json.loads(environment)).run("up", "--yes", "--parallel", "2"))
"""


@dataclass(frozen=True)
class Place:
    """Where the state of a toy lab is kept."""

    folder: Path
    environment: dict[str, str]
    bucket: Bucket | None = None

    def engine(self, stack: str = "toy", **more: str) -> Engine:
        """A stack there."""
        return Engine(Stack(stack, self.folder / "toy"), {**self.environment, **more})

    def start(self, toys: int) -> subprocess.Popen[bytes]:
        """Begin an `up` in a process group of its own, of so many toys that take a second each; one is being made."""
        environment, begun = {**self.environment, "TOYS": str(toys)}, self.log().count("sleeper")
        with (self.folder / "out").open("a") as out:
            run = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(self.folder / "toy"), json.dumps(environment)],
                cwd=ROOT, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + WAIT_S
        while self.log().count("sleeper") == begun:
            assert run.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.1)
        return run

    def cut_off(self, toys: int) -> None:
        """Begin such an `up`, and kill it."""
        run = self.start(toys)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()

    def log(self) -> str:
        """What the toys noted."""
        return (self.folder / "log").read_text()

    def said(self) -> str:
        """What those said."""
        return (self.folder / "out").read_text()

    def lock(self, holder: dict[str, object]) -> None:
        """Lay somebody's lock on the stack."""
        key, content = ".pulumi/locks/organization/homelab/toy/of-another.json", json.dumps(holder).encode()
        if self.bucket:
            self.bucket.put(key, content)
        else:
            path = self.folder / "kept" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def toy(folder: Path, backend: dict[str, str], bucket: Bucket | None = None) -> Place:
    """A copy of the toy program with a stack that has two resources."""
    shutil.copytree(ROOT / "tests/engine/toy", folder / "toy")
    (folder / "log").touch()
    program = {"PULUMI_CONFIG_PASSPHRASE": "toy", "PYTHONPATH": str(ROOT), "TOY_LOG": str(folder / "log")}
    place = Place(folder, {**paths.environment("twin"), **program, **backend}, bucket)
    engine = place.engine()
    engine.select()
    assert engine.run("up", "--yes") == 0
    return place


@pytest.fixture(scope="module", params=["folder", pytest.param("bucket", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for all tests; each begins with an `up` of what it wants there."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "folder":
        (folder / "kept").mkdir()
        yield toy(folder, {"PULUMI_BACKEND_URL": f"file://{folder}/kept"})
        return
    with Bucket(folder) as bucket:
        yield toy(folder, bucket.environment, bucket)


def test_the_state_is_there_and_nowhere_else(place: Place) -> None:
    engine = place.engine()
    assert {resource.name for resource in engine.resources()} >= {"first", "second"}
    assert engine.exists()
    assert engine.holders() == []
    assert engine.run("preview", "--expect-no-changes") == 0
    if place.bucket:
        assert ".pulumi/stacks/homelab/toy.json" in place.bucket.objects()
        assert not (place.folder / "kept").exists()


def test_two_runs_at_once(place: Place) -> None:
    run, engine = place.start(toys=30), place.engine()
    host = socket.gethostname()
    way_out = "homelab state unlock --stack toy"
    with pytest.raises(RefusedError, match=rf"process \d+ of \S+ on {host} since 20\S+; wait .*: {way_out}"):
        engine.select()
    assert engine.run("up", "--yes") != 0  # the engine's own refusal, when both begin in the same moment
    with pytest.raises(HomelabError, match="locked"):
        engine.replace(engine.export())
    assert run.wait(WAIT_S) == 0, place.said()
    names = {resource.name for resource in engine.resources()}
    assert names >= {f"sleeper{index}" for index in range(30)}
    engine.select()


def test_a_run_that_was_cut_off(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    engine = place.engine(TOYS="60")
    place.cut_off(toys=60)
    engine.select()
    assert "released the lock that an ended run had left: process" in capfd.readouterr().err
    cut = [one.name for one in engine.pending()]
    assert cut
    said = interrupted(engine, "up", engine.export())
    assert said[0].startswith("`up` that began 20")
    assert f"was cut off while creating {cut[0]}" in said[0]
    assert engine.pending() == []
    assert engine.run("up", "--yes", "--parallel", "64") == 0
    assert "pending operations" not in capfd.readouterr().out
    assert interrupted(engine, "up", engine.export()) == []
    assert engine.run("preview", "--expect-no-changes") == 0


@pytest.mark.slow
def test_what_the_engine_carries_along_for_ever_is_why_marks_are_cleared(place: Place) -> None:
    if place.bucket:
        pytest.skip("the same engine")
    engine = place.engine(TOYS="64")
    place.cut_off(toys=64)
    engine.select()
    assert engine.pending()
    assert engine.run("up", "--yes") == 0
    assert engine.pending()


def test_a_lock_of_another_machine_is_given_up_by_its_owner_only(place: Place) -> None:
    engine = place.engine()
    since = "2026-01-02T03:04:05.123456789Z"
    place.lock({"pid": 4711, "username": "ann", "hostname": "laptop", "timestamp": since})
    with pytest.raises(RefusedError, match="process 4711 of ann on laptop since 2026-01-02T03:04:05"):
        engine.select()
    assert engine.holders()
    engine.unlock()
    assert engine.holders() == []
    engine.select()


def test_a_copy_is_put_back(place: Place) -> None:
    engine = place.engine(TOYS="1")
    assert place.engine().run("up", "--yes") == 0
    copy = state.make(engine.stack, State(engine.export()), None)
    assert engine.run("up", "--yes") == 0
    present = State(engine.export())
    assert state.is_older(copy, present)
    state.refuse_foreign(engine, copy)
    state._replace(engine, archive.read(copy.path))
    assert "sleeper0" not in {resource.name for resource in engine.resources()}
    assert engine.run("up", "--yes") == 0
    assert sorted(State(engine.export()).urns) == sorted(present.urns)


@pytest.mark.slow
def test_a_copy_moves_to_another_backend(place: Place, tmp_path: Path) -> None:
    engine = place.engine()
    assert engine.run("up", "--yes") == 0
    copy = state.make(engine.stack, State(engine.export()), tmp_path)
    (tmp_path / "other").mkdir()
    other = place.engine(PULUMI_BACKEND_URL=f"file://{tmp_path}/other")
    other.select()
    state._replace(other, archive.read(copy.path))
    assert other.run("preview", "--expect-no-changes") == 0


def test_a_state_that_is_not_ours_is_refused_by_us_and_by_the_engine(place: Place) -> None:
    if place.bucket:
        pytest.skip("the same engine")
    engine = place.engine()
    copy = state.make(engine.stack, State(engine.export()), None)
    another = place.engine("another")
    another.select()
    with pytest.raises(RefusedError, match="another stack's"):
        state.refuse_foreign(another, copy)
    with pytest.raises(HomelabError):
        another.replace(copy.state.text)
    with pytest.raises(RefusedError, match="another passphrase"):
        state.refuse_foreign(place.engine(PULUMI_CONFIG_PASSPHRASE="toys"), copy)


def test_what_is_removed_is_gone(place: Place) -> None:
    engine = place.engine()
    engine.remove()
    assert not engine.exists()
    if place.bucket:
        assert not any(key.endswith("toy.json") for key in place.bucket.objects())


# The whole of it.


class InBucket(Sandbox):
    """A lab whose state is in a bucket."""

    bucket: Bucket

    def environment(self) -> dict[str, str]:
        """With the backend and its keys."""
        return {**super().environment(), **self.bucket.environment}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[InBucket]:
    with Bucket(tmp_path) as bucket:
        lab = InBucket(tmp_path / "lab")
        lab.bucket = bucket
        lab.prepare()
        yield lab
        lab.end()


@pytest.mark.slow
def test_a_lab_with_its_state_in_a_bucket(house: InBucket) -> None:
    """`up` while another runs, killed and taken up again, a copy put back, one node out, and everything forgotten."""
    run = house.start("up", "--yes")
    end = time.monotonic() + WAIT_S
    while not house.events("flash_started"):
        assert time.monotonic() < end, house.said()
        time.sleep(0.1)
    refused = house.up()
    assert refused.code == 1
    assert "is locked by process" in refused.output
    assert run.poll() is None
    house.kill(run)
    done = house.up().ok()
    assert "was cut off while creating" in done.output
    assert "pending operations" not in done.output
    house.preview_unchanged().ok()
    copy = house.folder / "copy.tar.gz"
    house.run("state", "backup", str(copy)).ok()
    house.run("destroy-target", "node4", "--yes").ok()
    restored = house.run("state", "restore", str(copy), "--yes").ok()
    assert "node4: only in the copy" in restored.output
    house.run("refresh", "--yes").ok()
    house.up().ok()
    assert all(node["ready"] is True for node in house.status()["nodes"])
    house.preview_unchanged().ok()
    assert max(house.count("flash_done").values()) == 1
    assert not (house.folder / ".homelab" / "state").exists()
    house.run("down", "--yes").ok()
    assert not any("stacks" in key and key.endswith("twin.json") for key in house.bucket.objects())
