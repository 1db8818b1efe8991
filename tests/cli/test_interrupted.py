"""4d.36, 4d.47: what a cut-off run left is told, and the engine's marks of it are cleared where they mean nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import archive, main, run_log, running, stacks, state
from cli.engine import Engine
from cli.interrupted import interrupted
from cli.stacks import Stack
from tests.cli.pulumi import Pulumi, exported

BEGAN = datetime(2026, 11, 21, 10, 33, 39, tzinfo=UTC)
CUT_SHORT = '{"at": 1, "kind": "begin", "urn": "urn:pulumi:s::p::a:b:C::x", "op": "create"}\n'
WHOLE = CUT_SHORT + '{"run": {"ended": 2, "code": 0}}\n'
CUT = (("node2-machine", "creating"), ("node3-flash", "creating"), ("node1-machine", "updating"))


@pytest.fixture
def pulumi(tmp_path: Path) -> Pulumi:
    return Pulumi(tmp_path / "bin")


@pytest.fixture
def engine(tmp_path: Path, pulumi: Pulumi) -> Engine:
    return pulumi.engine(Stack("homelab", tmp_path), f"file://{tmp_path}/state")


def test_after_a_run_that_came_to_its_end_there_is_nothing_to_say(engine: Engine, pulumi: Pulumi) -> None:
    for text in (exported(), exported(nodes=()), json.dumps({"version": 3, "deployment": None})):
        assert interrupted(engine, "up", text) == []
    assert pulumi.calls == []


def test_which_run_and_what_it_was_doing(engine: Engine) -> None:
    running.begin(engine.stack, "up", 2**22 + 1, BEGAN)
    run, doing = (
        "`up` that began 2026-11-21 10:33 UTC (process 4194305)",
        "creating node2-machine, node3-flash; updating",
    )
    assert interrupted(engine, "preview", exported(pending=CUT)) == [
        f"{run} was cut off while {doing} node1-machine",
        "`homelab up --stack homelab` goes on where it was",
    ]


def test_a_run_that_was_cut_off_between_two_steps_is_told_too(engine: Engine) -> None:
    running.begin(engine.stack, "destroy", 2**22 + 1, BEGAN)
    first, _ = interrupted(engine, "up", exported())
    assert first.endswith("(process 4194305) was cut off")


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        ({"20261121T103339Z-up": CUT_SHORT}, True),
        ({"20261121T103339Z-up": CUT_SHORT, "20261121T120000Z-preview": WHOLE}, True),
        ({"20261121T103339Z-up": CUT_SHORT, "20261121T120000Z-up": WHOLE}, False),
        ({"20261121T103339Z-up": WHOLE, "20261121T120000Z-preview": CUT_SHORT}, False),
    ],
)
def test_a_record_without_an_end_tells_of_it_when_the_note_is_lost(
    engine: Engine, runs: dict[str, str], told: bool
) -> None:
    folder = run_log.folder(engine.stack)
    folder.mkdir(parents=True)
    for name, text in runs.items():
        (folder / f"{name}.jsonl").write_text(text)
    said = interrupted(engine, "up", exported())
    assert said[:1] == (["`up` that began 2026-11-21 10:33 UTC was cut off"] if told else [])


def test_what_another_machine_left_has_no_run_here(engine: Engine) -> None:
    assert interrupted(engine, "up", exported(pending=CUT))[0].startswith("an earlier run was cut off while creating")


def test_many_are_counted(engine: Engine) -> None:
    many = tuple((f"node{i}-flash", "creating") for i in range(9))
    assert "node5-flash and 3 more" in interrupted(engine, "preview", exported(pending=many))[0]


@pytest.mark.parametrize("verb", ["up", "refresh"])
def test_the_marks_are_cleared_and_nothing_else_is(engine: Engine, pulumi: Pulumi, verb: str) -> None:
    interrupted(engine, verb, exported(pending=CUT))
    assert pulumi.calls == ["stack import --stack homelab"]
    assert pulumi.imported == [json.loads(exported())]


@pytest.mark.parametrize("verb", ["preview", "destroy", "destroy-target"])
def test_other_verbs_leave_the_marks(engine: Engine, pulumi: Pulumi, verb: str) -> None:
    assert interrupted(engine, verb, exported(pending=CUT))
    assert pulumi.calls == []


def test_destroy_says_what_it_does_not_undo(engine: Engine) -> None:
    assert (
        "destroy does not undo it; `homelab up --stack homelab` before"
        in interrupted(engine, "destroy", exported(pending=CUT))[1]
    )
    assert "does not undo" not in interrupted(engine, "destroy", exported(pending=CUT[2:]))[1]


def test_marks_that_can_not_be_cleared_are_no_reason_to_stop(engine: Engine, pulumi: Pulumi) -> None:
    pulumi.says("stack import", stderr="error: the disk is full\n", code=1)
    assert interrupted(engine, "up", exported(pending=CUT))[-1].endswith("pulumi stack import: the disk is full")


def test_a_run_that_goes_on_is_not_cut_off(engine: Engine, tmp_path: Path) -> None:
    program = tmp_path / "pulumi"
    program.write_text(f"#!/bin/sh\ncp {running.note(engine.stack)} {tmp_path}/seen\nsleep 0.05\n")
    program.chmod(0o755)
    running.begin(engine.stack, "up", os.getpid(), BEGAN)  # not the engine, by its name
    assert interrupted(engine, "preview", exported())


# The verbs.


@pytest.fixture
def owner(engine: Engine, pulumi: Pulumi, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Types a verb for a real lab whose engine is the stand-in."""
    engine.stack.settings_file.write_text("config: {}\n")
    monkeypatch.setattr(stacks, "find", lambda name: engine.stack)
    monkeypatch.setattr(main, "Engine", lambda stack: engine)

    def type_(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(main.app, [*words, "--stack", "homelab"], env={"COLUMNS": "200", "NO_COLOR": "1"})
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    return type_


def verbs(pulumi: Pulumi) -> list[str]:
    return [" ".join(call.split()[:2]) for call in pulumi.calls]


def test_a_run_keeps_a_copy_of_the_state_with_its_marks_and_then_clears_them(
    owner: Callable[..., tuple[int, str]], engine: Engine, pulumi: Pulumi
) -> None:
    pulumi.says("stack export", stdout=exported(pending=CUT))
    code, said = owner("refresh", "--yes")
    assert code == 0
    assert "was cut off while creating node2-machine, node3-flash; updating node1-machine" in said
    assert verbs(pulumi) == ["stack select", "stack export", "stack import", "refresh --stack"]
    (copy,) = state.automatic(engine.stack)
    assert archive.read(copy).state.text == exported(pending=CUT)
    assert copy.name.startswith("before-refresh-")
    assert running.last(engine.stack) is None


def test_a_preview_tells_and_changes_nothing(
    owner: Callable[..., tuple[int, str]], engine: Engine, pulumi: Pulumi
) -> None:
    pulumi.says("stack export", stdout=exported(pending=CUT))
    code, said = owner("preview")
    assert code == 0
    assert "was cut off while creating node2-machine" in said
    assert verbs(pulumi) == ["stack select", "stack export", "preview --stack"]
    assert state.automatic(engine.stack) == []


def test_a_copy_that_can_not_be_kept_is_no_reason_not_to_run(
    owner: Callable[..., tuple[int, str]], engine: Engine, pulumi: Pulumi
) -> None:
    pulumi.says("stack export", stdout=exported())
    engine.stack.folder.mkdir(parents=True)
    (engine.stack.folder / "states").touch()
    code, said = owner("refresh", "--yes")
    assert code == 0
    assert "warning: no copy of the state was kept" in said


@pytest.mark.parametrize(("cut", "kept"), [(CUT, True), ((), False)])
def test_destroy_keeps_the_keys_to_what_it_could_not_undo(
    owner: Callable[..., tuple[int, str]], engine: Engine, pulumi: Pulumi, cut: tuple[tuple[str, str], ...], kept: bool
) -> None:
    pulumi.says("stack export", stdout=exported(nodes=(), pending=cut))
    engine.stack.folder.mkdir(parents=True)
    (engine.stack.folder / "talosconfig").write_text("x")
    code, said = owner("destroy", "--yes")
    assert code == 0
    assert ("does not undo it" in said) is kept
    assert (engine.stack.folder / "talosconfig").exists() is kept


def test_a_second_run_is_refused_in_one_line(
    owner: Callable[..., tuple[int, str]], engine: Engine, pulumi: Pulumi, tmp_path: Path
) -> None:
    lock = tmp_path / "state" / ".pulumi" / "locks" / "organization" / "homelab" / "homelab" / "x.json"
    lock.parent.mkdir(parents=True)
    since = "2026-11-21T10:33:39Z"
    lock.write_text(json.dumps({"pid": 1, "hostname": "laptop", "username": "ann", "timestamp": since}))
    for verb in (("up", "--yes"), ("refresh", "--yes"), ("destroy", "--yes"), ("preview",)):
        code, said = owner(*verb)
        assert code == 1
        assert said == (
            f"error: stack homelab is locked by process 1 of ann on laptop since {since}; wait for it, or if you know "
            "that it is gone: homelab state unlock --stack homelab\n"
        )
    assert pulumi.calls == []
    assert lock.exists()
