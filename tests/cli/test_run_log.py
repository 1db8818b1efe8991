"""What a run leaves behind: whole while it goes on, cut down when it has ended, and never a secret."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli import run_log
from cli.run_events import Reader, Step, condensed, plain, steps
from cli.stacks import Stack
from tests.cli import events
from tests.cli.events import BEGAN, FLASH, NODE1, begin, end, first_up, said, urn

NOW = datetime.fromtimestamp(BEGAN, UTC)
SERVICE_ACCOUNT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEyMzQ1Njc4OTAxMjM0NTY3ODkwIn0.payload"


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack("homelab", tmp_path)


def told(lines: list[str]) -> list[Step]:
    reader = Reader()
    return list(steps(event for line in lines if (event := reader.event(line))))


def recorded(stack: Stack, lines: list[str], code: int | None = 0, verb: str = "up", at: datetime = NOW) -> Path:
    with run_log.recorded(stack, verb, at) as record:
        assert record.path is not None
        record.path.write_text("".join(lines))
        record.code = code
        return record.path


def test_each_step_has_its_node_its_time_and_its_last_word() -> None:
    flash, power, deployment = told(first_up())
    assert (flash.name, flash.kind, flash.owner, flash.op) == ("node1-flash", "Flash", "node1", "create")
    assert (flash.began - BEGAN, flash.ended, flash.failed) == (1, BEGAN + 61, False)
    assert flash.word == "flashed 1306 MB in 59 s"
    assert (power.owner, power.began - BEGAN) == ("node1", 61)
    assert (deployment.owner, deployment.failed, deployment.ended) == ("traefik", True, BEGAN + 70)


def test_a_step_that_runs_has_no_end_and_tells_how_far_it_is() -> None:
    (flash,) = told(first_up()[:6])
    assert flash.ended is None
    assert flash.word == "writing 42 %, 5.1 MB/s, 3 min left"


def test_what_a_preview_foresees_is_no_step() -> None:
    lines = [begin(1, FLASH, "a-flash", planning=True), end(1, FLASH, "a-flash", planning=True)]
    assert told(lines) == []


def test_a_step_that_is_made_again_counts_twice() -> None:
    lines = [begin(1, FLASH, "a"), end(3, FLASH, "a"), begin(5, FLASH, "a")]
    assert [(step.began - BEGAN, step.ended) for step in told(lines)] == [(1, BEGAN + 3), (5, None)]


def test_a_deleted_resource_is_told_by_what_it_was() -> None:
    (step,) = told([begin(1, FLASH, "node1-flash", NODE1, "delete")])
    assert (step.op, step.owner) == ("delete", "node1")


def test_what_is_kept_says_the_same_and_has_no_state() -> None:
    kept = list(condensed(first_up()))
    assert [s.__dict__ for s in told(kept)] == [s.__dict__ for s in told(first_up())]
    text = "".join(kept)
    for word in ("a word of the state", "127.0.0.1", "xxx", "downloading", "preludeEvent"):
        assert word not in text
    assert list(condensed(f"{line}\n" for line in kept)) == kept  # a second time changes nothing


@pytest.mark.parametrize("broken", ["", "{", '{"sequence": 1}', "[]", '{"at": 1}', '{"at": 1, "kind": "x", "z": 1}'])
def test_a_line_that_is_none_is_passed_over(broken: str) -> None:
    assert Reader().event(broken) is None


def test_a_parent_that_is_its_own_does_not_hang() -> None:
    own = urn(FLASH, "a")
    assert told([begin(1, FLASH, "a", own)])[0].owner == "a"


@pytest.mark.parametrize(
    "secret",
    [
        "-----BEGIN ED25519 PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw\n-----END ED25519 PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw",
        "LS0tLS1CRUdJTiBFRDI1NTE5IFBSSVZBVEUgS0VZLS0tLS0=",
        SERVICE_ACCOUNT.split(".", maxsplit=1)[0],
    ],
)
def test_what_could_be_a_key_is_not_kept_of_a_message(secret: str, stack: Stack) -> None:
    path = recorded(stack, [begin(1, FLASH, "a"), said(2, f"refused: {secret} is wrong", urn(FLASH, "a"), "error")])
    assert all(part not in path.read_text() for part in secret.split())
    (problem,) = run_log.Tail(path).read().problems
    assert problem.startswith("refused: [...]")


def test_names_and_digests_stay_in_a_message() -> None:
    for word in ("apis/apps/v1/namespaces/kube-prometheus-stack/deployments", "ab12" * 16):
        assert word in plain(f"GET {word}: refused")


def test_a_message_is_one_line_without_colours() -> None:
    assert plain("<{%fg 1%}>error:<{%reset%}> \x1b[31mno\n  way ") == "error: no way"
    assert len(plain("no " * 300)) == 300


def test_only_the_owner_reads_a_record_from_its_first_moment_on(stack: Stack) -> None:
    before = os.umask(0)
    try:
        with run_log.recorded(stack, "up", NOW) as record:
            assert record.path is not None
            assert stat.S_IMODE(record.path.stat().st_mode) == 0o600
            record.path.write_text("".join(first_up()))
    finally:
        os.umask(before)
    assert stat.S_IMODE(record.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(record.path.parent.stat().st_mode) == 0o700


def test_a_record_is_named_by_its_time_and_verb(stack: Stack) -> None:
    assert recorded(stack, first_up()).relative_to(stack.folder) == Path("runs", "20251121T154640Z-up.jsonl")
    assert recorded(stack, first_up()).name == "20251121T154640Z-up-1.jsonl"


def test_how_a_run_ended(stack: Stack) -> None:
    done, bad, killed = (run_log.Tail(recorded(stack, first_up(), code)).read() for code in (0, 255, None))
    assert [run.outcome for run in (done, bad, killed)] == ["done", "failed", "cut off"]
    assert done.changes == {"create": 3}
    assert done.problems == ("error: the image is not there",)
    assert done.verb == "up"
    assert done.began == BEGAN
    assert done.ended is not None


def test_a_running_run_is_followed_over_its_preview_to_its_end(stack: Stack) -> None:
    plan = [begin(0, FLASH, "a", planning=True), events.counted(1, {"create": 1}, preview=True), events.over(1)]
    with run_log.recorded(stack, "up", NOW) as record:
        assert record.path is not None
        tail = run_log.Tail(record.path)
        assert tail.read().outcome == "running"
        record.path.write_text("".join(plan))
        seen = tail.read()
        assert (seen.previewing, seen.changes, seen.steps) == (True, {"create": 1}, ())
        lines = first_up()
        record.path.write_text("".join(lines[:4]))
        seen = tail.read()
        assert (seen.previewing, seen.outcome, [step.name for step in seen.steps]) == (
            False,
            "running",
            ["node1-flash"],
        )
        with record.path.open("a") as file:
            file.write(lines[4] + lines[5][:30])
        assert tail.read().steps[0].word.startswith("downloading")
        with record.path.open("a") as file:
            file.write(lines[5][30:] + "".join(lines[6:]))
        assert tail.read().steps[0].word.startswith("flashed")
        record.code = 1
    ended = tail.read()
    assert (ended.outcome, len(ended.steps)) == ("failed", 3)


def test_an_up_that_outgrows_its_preview_at_once_is_read_from_its_start(stack: Stack) -> None:
    path = stack.root / "20251121T154640Z-up.jsonl"
    path.write_text(events.counted(1, {"create": 1}, preview=True))
    tail = run_log.Tail(path)
    assert tail.read().previewing
    path.write_text("".join(first_up()))
    assert len(tail.read().steps) == 3


def test_the_last_twenty_of_each_verb_are_kept(stack: Stack) -> None:
    for minute in range(25):
        recorded(stack, first_up(), verb="preview", at=NOW + timedelta(minutes=minute))
    recorded(stack, first_up(), at=NOW - timedelta(days=1))
    found = run_log.paths(stack)
    assert [path.name.split("-")[1] for path in found].count("preview.jsonl") == 20
    assert found[0].name == "20251121T161040Z-preview.jsonl"
    assert [run.verb for run in run_log.last(stack, 21)][-1] == "up"


def test_a_run_that_tells_nothing_leaves_nothing(stack: Stack) -> None:
    recorded(stack, [])
    assert run_log.paths(stack) == []


def test_a_killed_run_is_cut_off_and_cut_down_by_the_next(stack: Stack) -> None:
    code = (
        "import os, sys; from pathlib import Path; from cli import run_log; from cli.stacks import Stack\n"
        f"with run_log.recorded(Stack('homelab', Path({str(stack.root)!r})), 'up') as record:\n"
        "    record.path.write_text(sys.stdin.read()); print(record.path, flush=True); os.kill(os.getpid(), 9)"
    )
    given = "".join(first_up())
    done = subprocess.run([sys.executable, "-c", code], input=given, capture_output=True, text=True, check=False)
    path = Path(done.stdout.strip())
    assert run_log.Tail(path).read().outcome == "cut off"
    assert "a word of the state" in path.read_text()
    recorded(stack, first_up(), verb="refresh")
    assert "a word of the state" not in path.read_text()
    assert run_log.Tail(path).read().outcome == "cut off"
    assert len(run_log.Tail(path).read().steps) == 3


def test_a_run_that_goes_on_is_not_touched_by_another(stack: Stack) -> None:
    with run_log.recorded(stack, "up", NOW) as record:
        assert record.path is not None
        record.path.write_text("".join(first_up()))
        recorded(stack, first_up(), verb="preview")
        assert "a word of the state" in record.path.read_text()


def test_where_no_record_can_be_written_the_run_goes_on(stack: Stack) -> None:
    stack.folder.mkdir(parents=True)
    run_log.folder(stack).write_text("a file where the folder should be")
    with run_log.recorded(stack, "up") as record:
        assert record.options == ()


def test_a_verb_that_the_engine_keeps_no_log_of(stack: Stack) -> None:
    with run_log.recorded(stack, "cancel") as record:
        assert record.options == ()
    assert not run_log.folder(stack).exists()


def test_strange_files_are_passed_over(stack: Stack) -> None:
    recorded(stack, first_up())
    (run_log.folder(stack) / "notes-of-mine.jsonl").write_text("x")
    assert len(run_log.last(stack, 10)) == 1
    recorded(stack, first_up(), at=NOW + timedelta(days=1))
    assert (run_log.folder(stack) / "notes-of-mine.jsonl").exists()
