"""Which orphans go, in which order, and what holds them back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from drift.findings import Finding, Kind, Report, Unasked
from drift.judge import STATE
from drift.remove import choose, remove
from providers.errors import RefusedError

NOW = datetime(2026, 3, 1, 3, 30, tzinfo=UTC)
WAIT = timedelta(minutes=10)
OLD = NOW - timedelta(hours=1)
MEMBER = Finding(Kind.ORPHAN_ETCD_MEMBER, "node9", "", identity="9", first_seen=OLD)
NODE = Finding(Kind.ORPHAN_NODE, "node9", "", identity="uid", first_seen=OLD)
LONGHORN = Finding(Kind.ORPHAN_LONGHORN_NODE, "node9", "", first_seen=OLD)
SLOT = Finding(Kind.ORPHAN_SLOT, "board1/4", "", first_seen=OLD)
ALL = (MEMBER, NODE, LONGHORN, SLOT)


def ripe(*findings: Finding, unasked: Sequence[Unasked] = ()) -> tuple[Finding, ...]:
    return choose(Report(findings, tuple(unasked)), NOW, WAIT).ripe


def why(*findings: Finding, unasked: Sequence[Unasked] = ()) -> str:
    return "\n".join(choose(Report(findings, tuple(unasked)), NOW, WAIT).waiting)


def test_what_was_seen_twice_goes() -> None:
    assert ripe(*ALL) == ALL


def test_what_was_seen_once_stays_and_so_does_all_that_may_be_of_it() -> None:
    fresh = replace(NODE, first_seen=NOW)
    assert ripe(MEMBER, fresh, SLOT) == ()
    assert "node9 (orphan_node) stays: it was not there long enough; run this again in 600 s" in why(fresh)
    assert "more of it was found only now" in why(MEMBER, fresh)
    assert "other orphans stay, and may run in it" in why(fresh, SLOT)


def test_what_the_settings_name_stays() -> None:
    assert ripe(replace(NODE, declared=True)) == ()
    assert "the settings name it" in why(replace(NODE, declared=True))


def test_a_state_that_cannot_be_read_keeps_everything() -> None:
    assert ripe(*ALL, unasked=[Unasked(STATE, "no passphrase")]) == ()
    assert "nothing is removed" in why(*ALL, unasked=[Unasked(STATE, "no passphrase")])


@pytest.mark.parametrize("kind", [Kind.POWER_OFF, Kind.NOT_ANSWERING])
def test_a_slot_stays_on_while_a_node_is_missing(kind: Kind) -> None:
    """Its module may have been moved there."""
    missing = Finding(kind, "node3", "")
    assert ripe(missing, NODE, SLOT) == (NODE,)
    assert "node3 is missing, and its module may be in it" in why(missing, SLOT)


def test_a_slot_stays_on_while_the_cluster_cannot_be_asked() -> None:
    assert ripe(SLOT, unasked=[Unasked("etcd", "no answer", ("orphan_etcd_member/",))]) == ()


class Recorder:
    """Hands that only write down what they were told to do; some steps are refused."""

    def __init__(self, *refused: str) -> None:
        self.done: list[str] = []
        self._refused = refused

    def _step(self, what: str) -> None:
        if what in self._refused:
            raise RefusedError("it would do harm")
        self.done.append(what)

    def free(self, name: str, own: Sequence[Finding]) -> None:
        self._step(f"free {name} of {len(own)}")

    def switch_off(self, where: str) -> None:
        self._step(f"off {where}")

    def forget(self, finding: Finding) -> None:
        self._step(f"forget {finding.kind} {finding.name}")


def test_a_node_is_freed_then_its_slot_goes_off_then_its_entries_go() -> None:
    hands = Recorder()
    outcome = remove(hands, ALL)
    assert hands.done == [
        "free node9 of 3",
        "off board1/4",
        "forget orphan_etcd_member node9",
        "forget orphan_node node9",
        "forget orphan_longhorn_node node9",
    ]
    assert sorted(outcome.removed, key=ALL.index) == list(ALL)
    assert outcome.refused == []


def test_a_refusal_keeps_the_node_and_every_slot() -> None:
    other = replace(NODE, name="node8")
    hands = Recorder("free node9 of 3")
    outcome = remove(hands, (*ALL, other))
    assert hands.done == ["free node8 of 1", "forget orphan_node node8"]
    assert outcome.removed == [other]
    assert outcome.refused == ["node9 stays: it would do harm", "board1/4 stays on: what was not removed may run in it"]


def test_an_entry_that_is_not_let_go_is_told() -> None:
    outcome = remove(Recorder("forget orphan_longhorn_node node9"), (NODE, LONGHORN))
    assert outcome.removed == [NODE]
    assert outcome.refused == ["node9 stays: it would do harm"]
