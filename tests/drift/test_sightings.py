"""An orphan goes only after it was seen twice, some time apart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from drift import sightings
from drift.findings import Finding, Kind, Report, Unasked
from providers.errors import UserError

NOW = datetime(2026, 3, 1, 3, 30, tzinfo=UTC)
NODE = Finding(Kind.ORPHAN_NODE, "node9", "", identity="uid")
SLOT = Finding(Kind.ORPHAN_SLOT, "board1/4", "")
OFF = Finding(Kind.POWER_OFF, "node2", "")


def later(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def test_only_orphans_are_noted() -> None:
    assert sightings.noted({}, Report((OFF, NODE)), NOW) == {NODE.key: NOW}


def test_the_first_sighting_stays_while_it_is_seen() -> None:
    assert sightings.noted({NODE.key: NOW}, Report((NODE,)), later(30)) == {NODE.key: NOW}


def test_what_is_gone_is_forgotten_and_starts_anew() -> None:
    assert sightings.noted({NODE.key: NOW}, Report(), later(30)) == {}


def test_what_could_not_be_looked_for_is_kept() -> None:
    silent = Report((), (Unasked("Kubernetes", "no answer", ("orphan_node/",)),))
    before = {NODE.key: NOW, SLOT.key: NOW}
    assert sightings.noted(before, silent, later(30)) == {NODE.key: NOW}


def test_another_one_of_the_same_name_is_a_new_one() -> None:
    other = Finding(Kind.ORPHAN_NODE, "node9", "", identity="another uid")
    assert sightings.noted({NODE.key: NOW}, Report((other,)), later(30)) == {other.key: later(30)}


def test_a_clock_that_was_put_back_makes_nothing_older() -> None:
    assert sightings.noted({NODE.key: later(60)}, Report((NODE,)), NOW) == {NODE.key: NOW}


@pytest.mark.parametrize(("minutes", "twice"), [(0, False), (9.9, False), (10, True), (1000, True)])
def test_seen_twice(minutes: float, twice: bool) -> None:
    (dated,) = sightings.dated(Report((NODE,)), {NODE.key: NOW}).findings
    assert sightings.seen_twice(dated, later(minutes), timedelta(minutes=10)) is twice


def test_once_is_never_twice_however_short_the_wait() -> None:
    (dated,) = sightings.dated(Report((NODE,)), {NODE.key: NOW}).findings
    assert not sightings.seen_twice(dated, NOW, timedelta(0))
    assert not sightings.seen_twice(NODE, NOW, timedelta(0))


def test_the_wait_follows_the_twins_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMELAB_TIME_SCALE", "0.01")
    assert sightings.apart() == timedelta(seconds=6)
    monkeypatch.delenv("HOMELAB_TIME_SCALE")
    assert sightings.apart() == timedelta(minutes=10)


def test_they_are_kept_between_runs(tmp_path: Path) -> None:
    file = tmp_path / "homelab" / "drift.json"
    assert sightings.read(file) == {}
    sightings.write(file, {NODE.key: NOW})
    assert sightings.read(file) == {NODE.key: NOW}
    assert [path.name for path in file.parent.iterdir()] == ["drift.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"first_seen": {"a": 3}}', '{"first_seen": {"a": "soon"}}'])
def test_a_damaged_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "drift.json"
    file.write_text(text)
    with pytest.raises(UserError, match=r"can't be read .*; delete it"):
        sightings.read(file)
