"""Real runs leave their record: which node took how long; and neither the engine's own log nor ours holds a secret."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from cli import run_log
from cli.run_events import Reader, Step, steps
from cli.run_log import Run
from cli.stacks import Stack
from tests.engine.sandbox import Sandbox
from tests.engine.test_secrets import known

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def read(path: Path) -> tuple[Step, ...]:
    reader = Reader()
    lines = path.read_text(encoding="utf-8").splitlines()
    return steps(event for line in lines if (event := reader.event(line)))


def last(lab: Sandbox) -> Run:
    return run_log.last(Stack(lab.stack, lab.folder), 1)[0]


def named(found: tuple[Step, ...], owner: str) -> dict[str, str]:
    return {step.kind: step.op for step in found if step.owner == owner}


def test_the_engines_own_log_tells_each_step_and_no_secret(cold_two: Sandbox) -> None:
    raw = cold_two.folder / "raw.jsonl"
    cold_two.run("up", "--yes", "--", "--event-log", str(raw)).ok()  # the last one that is given counts
    found = read(raw)
    assert named(found, "node1") == {"Flash": "create", "Power": "create", "Machine": "create", "Member": "create"}
    assert all(step.ended is not None and not step.failed for step in found)
    flash = next(step for step in found if step.name == "node1-flash")
    assert "flashed" in flash.word
    text = raw.read_text(encoding="utf-8")
    secrets = known(cold_two)
    assert len(secrets) > 20
    assert [secret[:6] for secret in secrets if secret in text] == []


def test_each_run_leaves_a_record_of_what_it_did(cold_two: Sandbox) -> None:
    cold_two.up().ok()
    assert (last(cold_two).verb, last(cold_two).outcome, last(cold_two).steps) == ("up", "done", ())
    cold_two.run("destroy-target", "node4", "--yes").ok()
    gone = last(cold_two)
    assert (gone.verb, gone.outcome) == ("destroy", "done")
    assert set(named(gone.steps, "node4").values()) == {"delete"}
    cold_two.up().ok()
    back = last(cold_two)
    assert set(named(back.steps, "node4")) == {"Flash", "Power", "Machine", "Member"}
    assert {step.owner for step in back.steps} == {"node4"}
    assert back.changes["create"] >= 4
    secrets = known(cold_two)
    for path in run_log.paths(Stack(cold_two.stack, cold_two.folder)):
        text = path.read_text(encoding="utf-8")
        assert [secret[:6] for secret in secrets if secret in text] == []
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(text) < 200_000


def test_a_preview_leaves_one_too(cold_two: Sandbox) -> None:
    cold_two.run("preview").ok()
    found = last(cold_two)
    assert (found.verb, found.outcome, found.previewing, found.steps) == ("preview", "done", True, ())
