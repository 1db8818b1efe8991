"""The lock of a stack whose state is in a bucket or kept by Pulumi Cloud, and a second run that meets it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli import engine as engines
from cli import locks, running
from cli.engine import Engine
from cli.stacks import Stack
from providers.errors import HomelabError, RefusedError
from tests.cli.pulumi import Pulumi

S3 = "s3://state?region=us-east-1"
CLOUD = "https://api.pulumi.com"
HERE = socket.gethostname()
THERE = "error: stack 'organization/homelab/homelab' already exists\n"
NOW = datetime.now(UTC).replace(microsecond=0)


def refusal(pid: int, host: str = HERE, since: datetime = NOW) -> str:
    """What the engine says when it can't have the lock."""
    return (
        "error: could not create stack: the stack is currently locked by 1 lock(s). Either wait for the other "
        "process(es) to end or delete the lock file with `pulumi cancel`.\n"
        f"  s3://state/.pulumi/locks/organization/homelab/homelab/6b.json?region=us-east-1: created by ann@{host} "
        f"(pid {pid}) at {since.isoformat()}\n"
    )


@pytest.fixture
def pulumi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pulumi:
    monkeypatch.setattr(engines, "DYING_S", 0.0)
    made = Pulumi(tmp_path / "bin")
    made.says("stack init", stderr=THERE, code=1)
    return made


@pytest.fixture
def engine(tmp_path: Path, pulumi: Pulumi) -> Engine:
    return pulumi.engine(Stack("homelab", tmp_path), S3)


@pytest.fixture
def dead() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_stack_that_nobody_holds_is_selected(engine: Engine, pulumi: Pulumi) -> None:
    engine.select()
    assert pulumi.calls == ["stack init homelab --no-select", "stack select --create homelab"]


def test_a_stack_that_is_new_is_made(engine: Engine, pulumi: Pulumi) -> None:
    pulumi.says("stack init", stdout="Created stack 'homelab'\n")
    engine.select()


def test_a_second_run_is_told_who_since_when_and_what_to_type(engine: Engine, pulumi: Pulumi) -> None:
    pulumi.says("stack init", stderr=refusal(17, "laptop"), code=1)
    way_out = "homelab state unlock --stack homelab"
    with pytest.raises(RefusedError, match=rf"process 17 of ann on laptop since 20\S+; wait for it, .*: {way_out}$"):
        engine.select()
    assert not any(call.startswith("cancel") for call in pulumi.calls)


def test_a_run_of_this_checkout_that_is_gone_leaves_a_lock_that_is_released(
    engine: Engine, pulumi: Pulumi, dead: int, capsys: pytest.CaptureFixture[str]
) -> None:
    running.begin(engine.stack, "up", dead, NOW)
    pulumi.says("stack init", stderr=refusal(dead), code=1)
    engine.select()
    assert "cancel --yes homelab" in pulumi.calls
    assert f"released the lock that an ended run had left: process {dead} of ann" in capsys.readouterr().err


def test_another_machine_of_the_same_name_is_never_taken_for_a_dead_run(
    engine: Engine, pulumi: Pulumi, dead: int
) -> None:
    """Its process is none of ours: two laptops are both called `debian`."""
    pulumi.says("stack init", stderr=refusal(dead), code=1)
    with pytest.raises(RefusedError, match=f"process {dead} of ann"):
        engine.select()


def test_a_lock_that_is_older_than_the_noted_run_is_somebody_elses(engine: Engine, pulumi: Pulumi, dead: int) -> None:
    running.begin(engine.stack, "up", dead, NOW)
    pulumi.says("stack init", stderr=refusal(dead, since=NOW - timedelta(minutes=1)), code=1)
    with pytest.raises(RefusedError, match="is locked by"):
        engine.refuse_running()


def test_a_run_that_lives_is_not_cut_off(engine: Engine, pulumi: Pulumi, tmp_path: Path) -> None:
    program = tmp_path / "pulumi"
    program.write_text("#!/bin/sh\necho runs\nread _\n")
    program.chmod(0o755)
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        running.begin(engine.stack, "up", process.pid, NOW)
        pulumi.says("stack init", stderr=refusal(process.pid), code=1)
        with pytest.raises(RefusedError, match=f"process {process.pid} of ann"):
            engine.release_lock()


def test_what_else_is_wrong_with_a_bucket_is_told(engine: Engine, pulumi: Pulumi) -> None:
    pulumi.says("stack init", stderr="error: NoSuchBucket: none\n", code=1)
    with pytest.raises(HomelabError, match="NoSuchBucket: none; make the bucket first"):
        engine.select()


def test_every_lock_that_the_engine_names_is_read() -> None:
    two = refusal(1, "laptop") + refusal(2, "desk").splitlines()[1] + "\n"
    assert [(lock.pid, lock.user, lock.host) for lock in locks.told(two)] == [(1, "ann", "laptop"), (2, "ann", "desk")]
    assert locks.told("error: something else\n") == []


@pytest.mark.parametrize("busy", [True, False])
def test_the_cloud_says_by_itself_whether_an_update_is_going_on(tmp_path: Path, pulumi: Pulumi, busy: bool) -> None:
    engine = pulumi.engine(Stack("homelab", tmp_path), CLOUD)
    listed = [{"name": "me/homelab", "updateInProgress": busy}, {"name": "me/other", "updateInProgress": True}]
    pulumi.says("stack ls", stdout=json.dumps(listed))
    assert bool(engine.holders()) is busy
    if busy:
        with pytest.raises(RefusedError, match=r"Pulumi Cloud says is going on; .*homelab state unlock"):
            engine.select()
    else:
        engine.select()
    assert not any("init" in call for call in pulumi.calls)


def test_a_lock_is_given_up_by_the_engine_itself(engine: Engine, pulumi: Pulumi) -> None:
    engine.unlock()
    assert pulumi.calls == ["cancel --yes homelab"]


def test_the_note_of_a_run_goes_with_its_end(tmp_path: Path) -> None:
    stack, environment = Stack("homelab", tmp_path), dict(os.environ)
    seen = tmp_path / "seen"
    copy = ["sh", "-c", f"sleep 0.05; cp {running.note(stack)} {seen}; exit 3"]
    assert running.call(stack, "up", copy, environment) == 3
    assert json.loads(seen.read_text())["verb"] == "up"
    assert running.last(stack) is None


def test_the_note_of_a_killed_run_stays(tmp_path: Path) -> None:
    stack = Stack("homelab", tmp_path)
    assert running.call(stack, "up", ["sh", "-c", "kill -9 $$"], dict(os.environ)) == -9
    found = running.last(stack)
    assert found is not None
    assert found.words.startswith("`up` that began 20")


def test_a_preview_leaves_no_note(tmp_path: Path) -> None:
    stack = Stack("homelab", tmp_path)
    running.begin(stack, "up", 17)
    running.call(stack, "preview", ["sh", "-c", "kill -9 $$"], dict(os.environ))
    assert running.last(stack) == running.Run("up", 17, running.last(stack).since)  # type: ignore[union-attr]


def test_a_damaged_note_is_a_run_of_unknown_name(tmp_path: Path) -> None:
    stack = Stack("homelab", tmp_path)
    running.begin(stack, "up", 17)
    running.note(stack).write_text("{")
    assert running.last(stack) == running.Run("run", 0, "")
