"""A machine goes from one cluster to another by a changed line: out of the one, restarted, Ready in the other."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from providers import pace
from providers.engine import Reporter
from providers.errors import DeadlineError, RefusedError, UnreachableError
from providers.kubernetes.client import Kube
from providers.netboot import clusters, machine, power, rolling
from providers.netboot.resources import BootedProvider
from providers.talos.rollout import Rollout
from tests.providers.kubernetes.servers import Cluster
from tests.providers.kubernetes.wire import Authority, kubeconfig
from tests.providers.netboot.fakes import FakeKube, FakePower, View, World

HOME, SCHOOL, REBUILT = (kubeconfig(Authority(), f"https://192.0.2.{number}:6443") for number in (1, 2, 2))
MOVED = ["home: drain box1", "home: delete box1", "restart box1", "school: uncordon box1"]
PROVIDER = BootedProvider()


@dataclass
class House:
    """Two clusters, and what is done in both, in order."""

    done: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.home, self.school = (World(done=self.done, name=f"{name}: ") for name in ("home", "school"))
        self.booted = World(done=self.done, nodes=self.school.nodes)  # where machines boot into

    def kube(self, opens: str) -> Any:
        return FakeKube(self.home if opens == HOME else self.school)


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    made = House()

    @contextlib.contextmanager
    def of(given: Any, _mac: str) -> Iterator[FakePower]:
        yield FakePower(made.booted, given["name"], given["kind"] == "redfish")

    monkeypatch.setattr(machine, "Kube", made.kube)
    monkeypatch.setattr(power, "of", of)
    monkeypatch.setattr(pace, "limit", lambda _: 0.5)
    monkeypatch.setattr(rolling, "rollout", _rollouts())
    made.home.nodes["box1"] = View("old")
    return made


def _rollouts() -> Callable[[str], Rollout]:
    """Roll-outs of this test's own, that wait for nobody."""
    found: dict[str, Rollout] = {}
    return lambda cluster: found.setdefault(cluster, Rollout(gather_s=0.05))


def _props(cluster: str = "home", opens: str = HOME, kind: str = "redfish", **more: Any) -> dict[str, Any]:
    return {
        "node": "box1", "mac": "02:00:00:00:01:01", "image": "r1", "kubeconfig": opens, "cluster": cluster,
        "beside": None if cluster == "home" else cluster, "rank": 0.0, "roll": True, "joins": True, "network": True,
        "power": {"kind": kind, "name": "box1"}, **more,
    }  # fmt: skip


def _moved(olds: dict[str, Any], news: dict[str, Any]) -> Any:
    assert PROVIDER.diff("box1-booted", olds, news).changes
    return (PROVIDER.update("box1-booted", olds, news).outs or {})["boot"]


def test_it_leaves_restarts_and_is_ready_in_the_other_cluster(house: House):
    assert _moved({**_props(), "boot": "old"}, _props("school", SCHOOL)) == "boot+"
    assert house.done == MOVED


def test_state_of_an_older_program_is_that_of_the_talos_cluster(house: House):
    olds = {key: value for key, value in _props().items() if key not in ("beside", "network")}
    assert not PROVIDER.diff("box1-booted", olds, _props()).changes
    assert _moved(olds, _props("school", SCHOOL)) == "boot+"


def test_and_back_with_another_pools_image_in_one_restart(house: House):
    house.school.nodes["box1"], house.booted.nodes = View("there"), house.home.nodes
    house.home.nodes.clear()
    assert _moved(_props("school", SCHOOL), _props(image="r2", roll=False)) == "boot+"
    assert house.done == ["school: drain box1", "school: delete box1", "restart box1", "home: uncordon box1"]


def test_a_cluster_that_is_away_is_told_and_does_not_hold_it(house: House):
    house.home.away = True
    assert _moved(_props(), _props("school", SCHOOL)) == "boot+"
    assert house.done == ["restart box1", "school: uncordon box1"]


def test_nothing_is_touched_while_the_other_cluster_is_away(house: House):
    house.school.away = True
    with pytest.raises(UnreachableError):
        _moved(_props(), _props("school", SCHOOL))
    assert house.done == []


@pytest.mark.parametrize("kind", ["wake", "hand"])
def test_who_can_not_be_restarted_leaves_and_joins_at_its_next_start(house: House, kind: str):
    assert _moved(_props(kind=kind), _props("school", SCHOOL, kind)) == ""
    assert house.done == ["home: drain box1", "home: delete box1"]
    assert "box1" not in house.home.nodes


def test_a_run_that_was_killed_is_taken_up_without_another_restart(house: House):
    house.home.nodes.clear()
    house.school.nodes["box1"] = View("there")
    assert _moved(_props(), _props("school", SCHOOL)) == "there"
    assert "restart box1" not in house.done


def test_one_that_does_not_come_up_stops_those_behind_it(house: House):
    house.booted.dead.add("box1")
    with pytest.raises(DeadlineError, match="was started from the network"):
        _moved(_props(), _props("school", SCHOOL))
    with pytest.raises(RefusedError, match="box2"):
        _moved(_props(node="box2"), _props("school", SCHOOL, node="box2"))
    assert not any("box2" in line for line in house.done)


def test_it_is_enough_to_lack_the_network_that_the_owner_brings(house: House):
    lacking = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady"

    class Booting(FakePower):
        def restart(self, _say: power.Say) -> None:
            house.school.nodes["box1"] = View("new", ready=False, reason=lacking)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(power, "of", lambda *_: contextlib.nullcontext(Booting(house.school, "box1")))
        assert _moved(_props(), _props("school", SCHOOL, network=False)) == "new"
        house.school.nodes.clear()
        with pytest.raises(DeadlineError):
            _moved(_props(), _props("school", SCHOOL, network=True, node="box1"))


def test_a_cluster_that_was_made_anew_under_its_name_is_another_one(house: House):
    assert _moved(_props("school", SCHOOL), _props("school", REBUILT)) == "boot+"
    assert "restart box1" in house.done
    rotated = kubeconfig(Authority(), "https://192.0.2.1:6443")
    assert not clusters.is_another(_props(), _props(opens=rotated)), "the Talos cluster's CA may be exchanged"
    assert not clusters.is_another(_props(), _props(cluster="house", beside=None)), "and its name"


def test_its_node_and_its_pods_leave_a_real_cluster(house: House, api: Cluster, monkeypatch: pytest.MonkeyPatch):
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "box1"}}
    api.make("/api/v1/nodes", node)
    pod = {"containers": [{"name": "web", "image": "web"}], "nodeName": "box1"}
    named = {"name": "web", "namespace": "default"}
    api.make("/api/v1/namespaces/default/pods", {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": pod})
    both = {api.kubeconfig: lambda: Kube(api.kubeconfig), SCHOOL: lambda: FakeKube(house.school)}
    monkeypatch.setattr(machine, "Kube", lambda opens: both[opens]())
    monkeypatch.setattr(pace, "limit", lambda _: 10.0)
    begun = time.monotonic()
    machine.move(_props(opens=api.kubeconfig), _props("school", SCHOOL), Reporter(""))
    assert api.http.get("/api/v1/nodes/box1").status_code == 404
    assert house.done == ["restart box1", "school: uncordon box1"]
    assert time.monotonic() - begun < 60
