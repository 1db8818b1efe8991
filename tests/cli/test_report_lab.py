"""What of a lab needs attention: every rule with what it speaks of, and with what it is quiet about."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cli.observe_scene import SeenFlash
from cli.report_lab import Backup, Certificate, Report, Version, attention
from cli.run_log import Run
from tests.cli.test_report_page import recorded


def calm() -> Report:
    """The recorded lab, mended."""
    found = recorded()
    boards = []
    for board in found.scene.boards:
        slots = []
        for slot in board.slots:
            node = slot.node
            if node is not None and node.talos != "disabled":
                node = replace(node, ready=True, why="", cordoned=False, stage="running")
            slots.append(replace(slot, node=node))
        boards.append(replace(board, slots=tuple(slots)))
    young = tuple(it for it in found.certificates if it.state(found.made) != "soon")
    return replace(found, scene=replace(found.scene, boards=tuple(boards)), certificates=young)


def cluster(**changes: Any) -> Report:
    found = calm()
    return replace(found, scene=replace(found.scene, cluster=replace(found.scene.cluster, **changes)))


def board(**changes: Any) -> Report:
    found = calm()
    first, *others = found.scene.boards
    return replace(found, scene=replace(found.scene, boards=(replace(first, **changes), *others)))


def node(**changes: Any) -> Report:
    slot = calm().scene.boards[0].slots[0]
    assert slot.node is not None
    changed = replace(slot, node=replace(slot.node, **changes))
    return board(slots=(changed, *calm().scene.boards[0].slots[1:]))


def certificate(days: float, *, counts: bool = True) -> Report:
    found = calm()
    until = found.made + timedelta(days=days)
    return replace(found, certificates=(Certificate("etcd CA", "x", until, "renew it", counts=counts),))


def job(**changes: Any) -> Report:
    found = calm()
    assert found.job is not None
    return replace(found, job=replace(found.job, **changes))


def backup(days: float, kind: str = "etcd") -> Report:
    found = calm()
    return replace(found, job=None, backups=(Backup(kind, "x.db", 1, found.made - timedelta(days=days)),))


def version(wanted: str, seen: str) -> Report:
    return replace(calm(), versions=(Version("Talos", wanted, seen),))


def run(verb: str, outcome: str, *, previewing: bool = False) -> Report:
    found = calm()
    return replace(found, runs=(Run(verb, 1, 2, outcome, previewing=previewing), *found.runs))


def test_a_lab_that_is_well_needs_nothing() -> None:
    assert attention(calm()) == ()


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        (cluster(api="unreachable"), "the Kubernetes API gives no answer"),
        (cluster(members=None, healthy=None), "no control plane tells how etcd is"),
        (cluster(healthy=2), "etcd: 2 of 3 members are healthy"),
        (cluster(holder=None), "nobody is seen with the VIP 192.168.1.70"),
        (board(state="unreachable"), "board1: unreachable"),
        (board(flash=SeenFlash("Error", 0, 0, "Send timeout")), "board1: the last flash failed: Send timeout"),
        (node(ready=False, why="no network"), "node1: not Ready: no network"),
        (node(ready=None, talos="unreachable"), "node1: unreachable"),
        (node(cordoned=True), "node1: cordoned, takes no new pods"),
        (certificate(29.5), "etcd CA: 29 days left; renew it"),
        (certificate(-2), "etcd CA: expired 2 days ago; renew it"),
        (job(suspended=True), "the etcd backup job is suspended"),
        (job(succeeded=None), "the etcd backup job of 21 Nov 2026, 03:30 has not succeeded"),
        (
            job(succeeded=calm().made - timedelta(days=3)),
            "the etcd backup job of 21 Nov 2026, 03:30 has not succeeded",
        ),
        (replace(job(succeeded=None, scheduled=None), backups=()), "no backup of etcd is younger than 7 days"),
        (backup(8), "no backup of etcd is younger than 7 days"),
        (backup(1, "state"), "no backup of etcd is younger than 7 days"),
        (version("v1.13.9", "v1.13.8, v1.13.9"), "Talos: the settings ask for v1.13.9, seen is v1.13.8, v1.13.9"),
        (run("up", "failed"), "the last up failed"),
        (run("refresh", "cut off"), "the last refresh was cut off"),
    ],
)
def test_what_is_wrong_is_told(report: Report, sentence: str) -> None:
    assert attention(report) == (sentence,)


@pytest.mark.parametrize(
    "report",
    [
        certificate(31),
        certificate(-5, counts=False),
        board(state="flashing"),
        replace(job(succeeded=None, scheduled=None, note="the API gives no answer"), backups=()),
        job(scheduled=calm().made - timedelta(minutes=20)),  # it still has time
        backup(6),
        version("v1.13.9", "v1.13.9"),
        version("v1.13.9", ""),
        version("", "2.0.5"),
        run("preview", "failed", previewing=True),
        run("up", "failed", previewing=True),
        run("up", "running"),
        replace(calm(), runs=()),
    ],
)
def test_what_is_well_is_not(report: Report) -> None:
    assert attention(report) == ()


@pytest.mark.parametrize(
    ("days", "state"), [(31, "good"), (29.9, "soon"), (0.5, "soon"), (-0.1, "expired"), (None, "unknown")]
)
def test_a_certificates_state(days: float | None, state: str) -> None:
    made = calm().made
    until = None if days is None else made + timedelta(days=days)
    assert Certificate("x", "x", until, "").state(made) == state
