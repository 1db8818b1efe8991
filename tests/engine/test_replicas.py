"""A node that holds replicas: they move before it is wiped, or it stays; the twin's disks say that none was lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from providers.deadline import Deadline
from providers.kubernetes.client import Kube
from providers.longhorn.scene import Scene, observe
from tests.engine import volume
from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]

NODES = ["node1", "node2", "node3", "node4"]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    yield from volume.house(tmp_path_factory.mktemp("replicas"))


def scene(house: Sandbox) -> Scene:
    with Kube((house.folder / ".homelab" / "kubeconfig").read_text(encoding="utf-8")) as kube:
        return kube.patiently(lambda: observe(kube), "Longhorn's objects", Deadline(60))


def holders(house: Sandbox) -> list[str]:
    return sorted(replica.node for replica in scene(house).replicas if replica.healthy)


def test_the_volume_has_three_whole_replicas(house: Sandbox) -> None:
    (volume,) = scene(house).volumes.values()
    assert (volume.claim, volume.wanted) == ("web/data", 3)
    assert len(set(holders(house))) == 3


def test_replicas_move_before_their_node_is_wiped(house: Sandbox) -> None:
    leaving = holders(house)[-1]
    mark = len(house.events())
    done = house.run("destroy-target", leaving, "--yes").ok()
    assert "replicas to move: pvc-" in done.output
    since = house.events()[mark:]
    kinds = [event["kind"] for event in since]
    assert not {"longhorn_replica_lost", "longhorn_volume_lost"} & set(kinds)
    gone = next(i for i, e in enumerate(since) if e["kind"] == "longhorn_replica_removed")
    assert gone < kinds.index("reset")
    assert leaving not in holders(house)
    assert len(set(holders(house))) == 3
    assert leaving not in scene(house).nodes  # Longhorn's own list forgets it too


def test_a_node_whose_replica_fits_nowhere_else_stays(house: Sandbox) -> None:
    staying, mark = holders(house)[-1], len(house.events())
    before = holders(house)
    done = house.run("destroy-target", staying, "--yes")
    assert done.code != 0
    assert f"{staying} is not taken out: no other node can take the replica of pvc-" in done.output
    assert holders(house) == before
    assert {event["kind"] for event in house.events()[mark:]}.isdisjoint({"reset", "power_off", "longhorn_volume_lost"})
    assert scene(house).nodes[staying].takes
    assert {row["name"]: row["ready"] for row in house.status()["nodes"]}[staying] is True


def test_the_node_comes_back_and_takes_replicas_again(house: Sandbox) -> None:
    house.up().ok()
    house.preview_unchanged().ok()
    assert sorted(scene(house).nodes) == NODES
    assert all(node.takes for node in scene(house).nodes.values())
    assert not [event for event in house.events() if event["kind"] == "longhorn_volume_lost"]
