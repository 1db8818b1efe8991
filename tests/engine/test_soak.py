"""Proof 7: random verbs, and after each of them the quorum, the replicas, the disks and the settings are as they were.

`HOMELAB_SOAK_SEED` and `HOMELAB_SOAK_HOURS` (of twin time) repeat or lengthen the long one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from providers.talos.client import EtcdMember
from providers.talos.leave import Etcd
from tests.engine.soak import CONTROL_PLANES, NODES, WEIGHTS, Known, Lab, Quorum, Verb, can_upgrade, choose, harm, soak

SEED = int(os.environ.get("HOMELAB_SOAK_SEED", "5"))
HOURS = float(os.environ.get("HOMELAB_SOAK_HOURS", "2"))
SHORT_SCALE, LONG_SCALE = 0.01, 0.1


def played(seed: int, length: int, known: Known) -> list[str]:
    """A sequence in which everything succeeds."""
    chance, verbs = Random(seed), []
    for _ in range(length):
        verb = choose(chance, known)
        verbs.append(verb)
        if verb.name in ("remove", "kill remove"):
            known.out.add(verb.node)
        elif verb.name not in ("cut", "copy"):
            known.out.clear()
        known.upgraded |= verb.name == "upgrade"
    return [str(verb) for verb in verbs]


def test_a_seed_gives_one_sequence() -> None:
    assert played(7, 50, Known()) == played(7, 50, Known())
    assert played(7, 50, Known()) != played(8, 50, Known())


def test_every_verb_comes_up_sooner_or_later() -> None:
    seen = {line.rstrip("0123456789 ").removesuffix("node").strip() for line in played(1, 500, Known(upgrades=True))}
    assert seen == set(WEIGHTS)


def test_a_lab_without_the_verb_is_not_upgraded() -> None:
    assert not any("upgrade" in line for line in played(1, 500, Known()))


def test_power_is_never_cut_where_that_alone_would_cost_the_quorum() -> None:
    for out in CONTROL_PLANES:
        assert Known(out={out}).may_lose_power() == ["node4"]
    assert Known(out={"node4"}).may_lose_power() == list(CONTROL_PLANES)
    assert Known().may_lose_power() == list(NODES)


def etcd(healthy: int, members: int = 3, learners: int = 0) -> Etcd:
    made = [EtcdMember(i, f"node{i}", (), (), learner=i > members) for i in range(1, members + learners + 1)]
    return Etcd("127.117.0.11", tuple(made), frozenset(f"node{i}" for i in range(1, healthy + 1)))


@pytest.mark.parametrize(
    ("looks", "lost"),
    [
        ([etcd(3), etcd(2), etcd(3)], 0),
        ([etcd(1), etcd(3), None, etcd(2)], 0),
        ([etcd(1), etcd(1), etcd(1), etcd(3)], 1),
        ([None, None], 1),
        ([etcd(1, members=1, learners=1)] * 3, 0),
        ([etcd(1, members=2)] * 2, 1),
    ],
)
def test_the_quorum_is_lost_when_two_looks_find_no_majority(looks: list[Etcd | None], lost: int) -> None:
    quorum = Quorum(lambda: None)
    for look in looks:
        quorum.take(look)
    assert len(quorum.lost) == lost


def event(kind: str, node: str = "") -> dict[str, Any]:
    return {"kind": kind, "node": node}


@pytest.mark.parametrize(
    ("events", "verb", "word"),
    [
        ([event("flash_started", "m1")], "up", "m1 flashed"),
        ([event("longhorn_volume_lost")], "restore", "last replica"),
        ([event("longhorn_replica_lost")], "remove", "1 replicas lost"),
        ([event("bootstrapped", "m1")], "up", "bootstrapped again"),
    ],
)
def test_what_harm_is(events: list[dict[str, Any]], verb: str, word: str) -> None:
    (said,) = harm(events, Verb(verb), {"m1"})
    assert word in said


def test_what_no_harm_is() -> None:
    assert harm([event("flash_started", "m2"), event("longhorn_replica_removed")], Verb("up"), {"m1"}) == []
    assert harm([event("bootstrapped", "m1"), event("longhorn_replica_lost")], Verb("restore"), {"m1"}) == []


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path / "lab")
    made.prepare()
    yield made
    made.end()


@pytest.mark.engine
@pytest.mark.timeout(1800)
def test_a_short_soak(lab: Lab) -> None:
    lab.furnish(Known(), storage=False, scale=SHORT_SCALE)
    lab.up().ok()
    print(f"HOMELAB_SOAK_SEED={SEED}")
    soak(lab, SEED, hours=0.1, least=2, scale=SHORT_SCALE)


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(14400)
def test_two_hours_of_twin_time(lab: Lab) -> None:
    lab.furnish(Known(upgrades=can_upgrade()), storage=True, scale=LONG_SCALE)
    lab.run("up", "--yes", limit_s=1200).ok()
    print(f"HOMELAB_SOAK_SEED={SEED} HOMELAB_SOAK_HOURS={HOURS}")
    sequence = soak(lab, SEED, HOURS, least=8, scale=LONG_SCALE)
    print(f"{len(sequence)} verbs in {HOURS} h of twin time")
