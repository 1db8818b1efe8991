"""A pool's machine is started once, waited for, rolled in its turn, and taken out; cluster and power are fakes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from providers import pace
from providers.engine import Reporter
from providers.errors import DeadlineError, RefusedError
from providers.netboot import machine, power, rolling
from tests.providers.netboot.fakes import FakeKube, FakePower, View, World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()

    @contextlib.contextmanager
    def of(given: Any, mac: str) -> Iterator[FakePower]:
        yield FakePower(made, given["name"], given["kind"] == "redfish")

    monkeypatch.setattr(machine, "Kube", lambda _: FakeKube(made))
    monkeypatch.setattr(power, "of", of)
    monkeypatch.setattr(pace, "limit", lambda _: 0.5)
    return made


def _props(name: str = "box1", rank: int = 0, kind: str = "redfish", cluster: str = "home") -> dict[str, Any]:
    return {
        "node": name, "mac": "02:00:00:00:01:01", "image": "r2", "kubeconfig": "", "cluster": cluster, "rank": rank,
        "joins": True, "power": {"kind": kind, "name": name},
    }  # fmt: skip


QUIET = Reporter("")


def test_a_machine_is_started_and_waited_for(world: World):
    assert machine.start(_props(), QUIET) == "boot+"
    assert world.done == ["start box1"]


def test_a_machine_that_runs_is_adopted_and_not_started(world: World):
    world.nodes["box1"] = View("running")
    assert machine.start(_props(), QUIET) == "running"
    assert world.done == []


def test_who_only_wakes_or_is_switched_by_hand_is_not_waited_for(world: World):
    world.dead.add("box1")
    assert machine.start(_props(kind="wake"), QUIET) == ""
    assert machine.start({**_props(), "joins": False}, QUIET) == ""


def test_a_machine_that_does_not_join_says_where_to_look(world: World):
    world.dead.add("box1")
    with pytest.raises(
        DeadlineError, match=r"box1 \(02:00:00:00:01:01\) was started from the network: look at its con"
    ):
        machine.start(_props(), QUIET)


def test_a_rolled_machine_is_drained_restarted_and_let_in_again(world: World):
    world.nodes["box1"] = View("old")
    assert machine.roll(_props(cluster="one"), "old", QUIET) == "old+"
    assert world.done == ["drain box1", "restart box1", "uncordon box1"]


def test_what_can_not_be_restarted_is_left_alone(world: World):
    world.nodes["box1"] = View("old")
    assert machine.roll(_props(kind="wake", cluster="two"), "old", QUIET) == "old"
    assert world.done == []


def _all_at_once(names: list[str], cluster: str) -> dict[str, Exception | str]:
    ended: dict[str, Exception | str] = {}

    def roll(name: str, rank: int) -> None:
        try:
            ended[name] = machine.roll(_props(name, rank, cluster=cluster), "", QUIET)
        except Exception as error:
            ended[name] = error

    threads = [threading.Thread(target=roll, args=(name, rank)) for rank, name in enumerate(names)]
    for thread in reversed(threads):
        thread.start()
    for thread in threads:
        thread.join(20)
    return ended


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rolling, "rollout", rolling.rollout)
    rolling.rollout("three")._gather_s = rolling.rollout("four")._gather_s = 0.2


@pytest.mark.usefixtures("quick")
def test_machines_are_rolled_one_by_one_in_their_order(world: World):
    world.nodes = {name: View("old") for name in ("a", "b", "c")}
    assert _all_at_once(["a", "b", "c"], "three") == dict.fromkeys(("a", "b", "c"), "old+")
    steps = [f"{what} {name}" for name in ("a", "b", "c") for what in ("drain", "restart", "uncordon")]
    assert world.done == steps


@pytest.mark.usefixtures("quick")
def test_nobody_is_restarted_after_one_that_did_not_come_back(world: World):
    world.nodes = {name: View("old") for name in ("a", "b", "c")}
    world.dead.add("b")
    ended = _all_at_once(["a", "b", "c"], "four")
    assert ended["a"] == "old+"
    assert isinstance(ended["b"], DeadlineError)
    assert isinstance(ended["c"], RefusedError)
    assert "c: not begun: b's restart failed" in str(ended["c"])
    assert "restart c" not in world.done


def test_a_machine_leaves_its_cluster_before_its_power(world: World):
    world.nodes["box1"] = View("old")
    machine.leave(_props(), QUIET)
    assert world.done == ["drain box1", "delete box1", "stop box1"]


def test_a_cluster_that_is_away_keeps_nobody(world: World):
    world.away = True
    machine.leave(_props(), QUIET)
    assert world.done == ["stop box1"]
