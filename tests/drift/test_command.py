"""The verb over a lab in which little answers: exit codes, the JSON's shape, what it writes and never does."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from cli import drift, observe, stacks
from cli.engine import Engine
from cli.observe import Lab
from cli.stacks import Stack
from drift.findings import Finding, Kind, Report, Unasked
from drift.judge import Declared, judge
from drift.look import look
from drift.objects import Silence
from providers.errors import HomelabError, RefusedError
from providers.talos.secrets import SecretsBundle, talosconfig
from tests.cli.lab import lab
from tests.drift.state import resources
from tests.drift.test_judge import APPLIED, whole

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "drift.schema.json").read_text(encoding="utf-8"))
AT = datetime(2026, 3, 1, 3, 30, tzinfo=UTC)


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """A stack whose lab is the tests', and whose state is one that was recorded."""
    known = lab(tmp_path)
    monkeypatch.setattr(stacks, "find", lambda _: known.stack)
    monkeypatch.setattr(observe, "open_lab", lambda _: known)
    monkeypatch.setattr(Engine, "deployment", lambda _: resources())
    monkeypatch.setattr(Engine, "refuse_running", lambda _: None)
    monkeypatch.setattr(Engine, "outputs", lambda _: {})
    monkeypatch.setenv("HOMELAB_TIME_SCALE", "1")
    return known.stack


def sees(monkeypatch: pytest.MonkeyPatch, report: Report) -> None:
    monkeypatch.setattr(drift, "judge", lambda *_: report)
    monkeypatch.setattr(drift, "look", lambda *_: None)


def run(**options: Any) -> int:
    """The exit code."""
    try:
        drift.command(
            **{"stack": "homelab", "metrics": None, "remove": False, "as_json": False, "yes": True, **options}
        )
    except typer.Exit as ended:
        return ended.exit_code
    return 0


def test_a_lab_that_is_dead_is_no_drift_and_is_told(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 1
    shown = capsys.readouterr().out
    assert "nothing of it answers from here" in shown
    assert "is this machine in the lab's network?" in shown


def test_every_part_of_a_dead_lab_says_why(tmp_path: Path) -> None:
    known = lab(tmp_path)
    seen = look(known, APPLIED)
    assert isinstance(seen.powers["board1"], Silence)
    assert isinstance(seen.cluster, Silence)
    assert not seen.anything
    assert judge(Declared("homelab", known.settings, APPLIED), seen).findings == ()


def test_nothing_differs(stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(drift, "look", lambda _lab, applied: whole(applied))
    assert run() == 0
    assert capsys.readouterr().out == "no drift\n"
    assert not (stack.folder / drift.NOTED).exists()


ORPHAN = Finding(Kind.ORPHAN_SLOT, "board1/4", "it is powered on, and holds no node", ("homelab drift --remove",))
OFF = Finding(Kind.POWER_OFF, "node2", "slot 2 of board1 is off", ("homelab refresh", "homelab up"))


def test_each_finding_says_what_to_type(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sees(monkeypatch, Report((OFF,), (Unasked("etcd", "no answer"),)))
    assert run() == drift.DRIFT == 3
    assert capsys.readouterr().out.splitlines() == [
        "power_off  node2: slot 2 of board1 is off",
        "  -> homelab refresh",
        "  -> homelab up",
        "not asked  etcd: no answer",
    ]


def test_the_shape_that_machines_read(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sees(monkeypatch, Report((OFF, ORPHAN), (Unasked("etcd", "no answer"),)))
    assert run(as_json=True) == 3
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["format", "stack", "cluster", "at", "drift", "findings", "unasked", "removed"]
    assert found["drift"] is True
    assert found["findings"][0] == {
        "kind": "power_off",
        "name": "node2",
        "what": "slot 2 of board1 is off",
        "repair": ["homelab refresh", "homelab up"],
        "fields": [],
        "first_seen": None,
    }
    assert found["findings"][1]["first_seen"] == found["at"]
    assert found["unasked"] == [{"name": "etcd", "why": "no answer"}]


def test_the_schema_is_of_that_shape() -> None:
    report = Report((OFF, ORPHAN.since(AT)), (Unasked("etcd", "no answer"),)).as_json("homelab", "home", AT)
    assert SCHEMA["required"] == list(SCHEMA["properties"]) == list(report)
    assert SCHEMA["properties"]["format"]["const"] == report["format"]
    for key in ("findings", "unasked"):
        items = SCHEMA["properties"][key]["items"]
        assert items["required"] == list(items["properties"]) == list(report[key][0])
    assert SCHEMA["properties"]["findings"]["items"]["properties"]["kind"]["enum"] == [kind.value for kind in Kind]


def test_the_metrics_are_written_beside_what_is_shown(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sees(monkeypatch, Report((OFF,)))
    assert run(metrics=tmp_path / "drift.prom") == 3
    assert 'homelab_drift{kind="power_off",name="node2"} 1' in (tmp_path / "drift.prom").read_text()


def removals(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was taken away, instead of being taken away."""
    gone: list[str] = []

    def taken(_: Lab, ripe: tuple[Finding, ...]) -> tuple[Finding, ...]:
        gone.extend(finding.name for finding in ripe)
        return ripe

    monkeypatch.setattr(drift, "_taken_out", taken)
    return gone


def test_an_orphan_goes_at_its_second_sighting_and_only_when_asked(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sees(monkeypatch, Report((ORPHAN,)))
    gone = removals(monkeypatch)
    assert run(remove=True) == 3
    assert "it was not there long enough; run this again in 600 s" in capsys.readouterr().err
    noted = stack.folder / drift.NOTED
    first = json.loads(noted.read_text())["first_seen"]["orphan_slot/board1/4"]
    assert run() == 3
    assert json.loads(noted.read_text())["first_seen"]["orphan_slot/board1/4"] == first
    assert gone == []
    noted.write_text(json.dumps({"first_seen": {"orphan_slot/board1/4": "2026-01-01T00:00:00+00:00"}}))
    assert run() == 3
    assert gone == []
    capsys.readouterr()
    assert run(remove=True, as_json=True) == 0
    assert gone == ["board1/4"]
    shown = json.loads(capsys.readouterr().out)
    assert (shown["removed"], shown["findings"]) == (["orphan_slot/board1/4"], [])


def test_nobody_to_ask_is_no_yes(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    sees(monkeypatch, Report((ORPHAN,)))
    gone = removals(monkeypatch)
    stack.folder.mkdir(parents=True)
    (stack.folder / drift.NOTED).write_text('{"first_seen": {"orphan_slot/board1/4": "2026-01-01T00:00:00+00:00"}}')
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(HomelabError, match="There is nobody to ask"):
        run(remove=True, yes=False)
    assert gone == []


def test_a_state_that_cannot_be_read_is_named(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def locked(_: Engine) -> Any:
        raise HomelabError("pulumi stack export: incorrect passphrase")

    monkeypatch.setattr(Engine, "deployment", locked)
    monkeypatch.setattr(drift, "look", lambda *_: whole(APPLIED))
    assert run() == 0
    assert "not asked  the stack's state: pulumi stack export: incorrect passphrase" in capsys.readouterr().out


def test_nothing_is_looked_at_while_a_run_is_under_way(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(_: Engine) -> None:
        raise RefusedError("stack homelab is locked by process 7")

    monkeypatch.setattr(Engine, "refuse_running", busy)
    monkeypatch.setattr(drift, "look", lambda *_: pytest.fail("it was looked at"))
    with pytest.raises(RefusedError, match="process 7"):
        run()


def test_a_machine_without_keys_takes_those_of_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = SecretsBundle.generate()
    cert = bundle.issue_client()
    given = {"kubeconfig": "the state's", "talosconfig": talosconfig("home", cert, ["127.107.2.1"], ["127.107.2.1"])}
    monkeypatch.setattr(Engine, "outputs", lambda _: given)
    found = drift.with_keys(lab(tmp_path))
    assert found.kubeconfig == "the state's"
    assert found.certificate is not None
    assert found.certificate.crt.strip() == cert.crt.strip()
    here = dataclasses.replace(lab(tmp_path), kubeconfig="this machine's")
    assert drift.with_keys(here).kubeconfig == "this machine's"


def test_a_machine_without_keys_and_state_goes_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_: Engine) -> Any:
        raise HomelabError("no passphrase")

    monkeypatch.setattr(Engine, "outputs", nothing)
    known = lab(tmp_path)
    assert drift.with_keys(known) is known
