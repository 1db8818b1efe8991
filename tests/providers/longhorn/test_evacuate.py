"""How replicas leave a node: moved first, refused when a volume would lose by it, undone when it is given up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from providers.deadline import Deadline
from providers.errors import DeadlineError, RefusedError
from providers.longhorn.evacuate import evacuate, forget, give_up
from tests.providers.longhorn.cluster import Longhorn, node, replica, volume


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def deadline(self, seconds: float) -> Deadline:
        return Deadline(seconds, lambda: self.now, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def run(
    longhorn: Longhorn, name: str = "node1", seconds: float = 60, *, comes_back: bool = False
) -> tuple[bool, list[str]]:
    said: list[str] = []
    return evacuate(longhorn, name, Clock().deadline(seconds), said.append, comes_back=comes_back), said


def house(**more: object) -> Longhorn:
    """Four nodes, two volumes of three replicas each; node1 has one of each."""
    return Longhorn(
        nodes=[node(f"node{number}") for number in (1, 2, 3, 4)],
        volumes=[volume("a", 3), volume("b", 3)],
        replicas=[replica(of, f"node{number}") for of in "ab" for number in (1, 2, 3)],
        **more,  # type: ignore[arg-type]
    )


def test_replicas_move_before_the_node_goes() -> None:
    longhorn = house()
    done, said = run(longhorn)
    assert done
    assert longhorn.on("node1") == []
    assert longhorn.on("node4") == ["a", "b"]
    assert longhorn.patches == [{"allowScheduling": False, "evictionRequested": True}]  # one patch, or it is refused
    assert said[0].startswith("node1: 1 of 2 replicas to move: b (web/b)")


def test_where_there_is_no_longhorn_nothing_is_done() -> None:
    assert run(Longhorn(installed=False)) == (False, [])


def test_a_node_that_longhorn_does_not_know_needs_nothing() -> None:
    longhorn = house()
    assert run(longhorn, "node9") == (False, [])
    assert longhorn.patches == []


def test_a_node_without_replicas_is_closed_so_that_none_arrives() -> None:
    longhorn = house()
    assert run(longhorn, "node4") == (False, [])
    assert longhorn.patches == [{"allowScheduling": False, "evictionRequested": True}]


def test_the_last_healthy_replica_is_refused_before_anything_is_touched() -> None:
    longhorn = house()
    for item in longhorn.replicas:
        if item["spec"]["volumeName"] == "a" and item["spec"]["nodeID"] != "node1":
            item["spec"]["failedAt"] = "2026-01-02T00:00:00Z"
    with pytest.raises(RefusedError, match=r"node1 is not taken out: the last healthy replica of a \(web/a\) is on it"):
        run(longhorn)
    assert longhorn.patches == []


def test_a_healthy_replica_on_a_node_that_is_away_does_not_count() -> None:
    longhorn = house()
    for number in (1, 2):
        longhorn.nodes[number] = node(f"node{number + 1}", ready=False)
    with pytest.raises(RefusedError, match="last healthy replica of a"):
        run(longhorn)


def test_the_only_replica_of_a_volume_that_wants_one_moves() -> None:
    longhorn = Longhorn([node("node1"), node("node2")], [volume("a", 1)], [replica("a", "node1")])
    assert run(longhorn)[0]
    assert longhorn.on("node2") == ["a"]


@pytest.mark.parametrize(
    "others",
    [
        pytest.param([node("node2"), node("node3")], id="all-hold-one"),
        pytest.param([node("node2"), node("node3"), node("node4", room_gb=1)], id="no-room"),
        pytest.param([node("node2"), node("node3"), node("node4", takes=False)], id="closed"),
        pytest.param([node("node2"), node("node3"), node("node4", ready=False)], id="away"),
    ],
)
def test_it_is_refused_when_no_other_node_can_take_the_replica(others: list[dict[str, object]]) -> None:
    replicas = [replica("a", f"node{number}") for number in (1, 2, 3)]
    longhorn = Longhorn([node("node1"), *others], [volume("a", 3)], replicas)
    with pytest.raises(RefusedError, match=r"no other node can take the replica of a \(web/a\): lower its number"):
        run(longhorn)
    assert longhorn.patches == []


def test_a_dead_node_may_go_when_its_volumes_are_whole_without_it() -> None:
    longhorn = house(stuck=True)
    longhorn.nodes[0] = node("node1", ready=False)
    done, said = run(longhorn)
    assert not done
    assert said == ["node1: Longhorn does not reach it; its volumes are whole without it"]


def test_a_dead_node_with_the_only_replica_is_refused() -> None:
    longhorn = Longhorn([node("node1", ready=False), node("node2")], [volume("a", 1)], [replica("a", "node1")])
    with pytest.raises(RefusedError, match="it does not answer: bring it back, or delete the volume"):
        run(longhorn)


def test_replicas_that_do_not_move_in_time_keep_the_node() -> None:
    longhorn = house(stuck=True)
    with pytest.raises(RefusedError, match=r"after 60 s 2 of 2 replicas to move: a \(web/a\), b \(web/b\)"):
        run(longhorn)
    assert longhorn.patches[-1] == {"allowScheduling": True, "evictionRequested": False}


def test_it_waits_until_the_moved_volumes_are_healthy() -> None:
    longhorn = house()
    longhorn.volumes[0] = volume("a", 3, robustness="degraded")
    with pytest.raises(RefusedError, match=r"waiting for a \(web/a\) to be healthy"):
        run(longhorn)


def test_a_detached_volume_counts_as_settled() -> None:
    longhorn = house()
    longhorn.volumes[0] = volume("a", 3, robustness="unknown", state="detached")
    assert run(longhorn)[0]


def test_giving_up_reverses_what_a_removal_did_and_not_what_the_owner_did() -> None:
    longhorn = house()
    longhorn.nodes[1] = node("node2", takes=False)
    run(longhorn, "node4")
    deadline = Clock().deadline(5)
    assert give_up(longhorn, "node4", deadline)
    assert longhorn.patches[-1] == {"allowScheduling": True, "evictionRequested": False}
    assert not give_up(longhorn, "node4", deadline)
    assert not give_up(longhorn, "node2", deadline)
    assert not give_up(Longhorn(installed=False), "node1", deadline)


def test_longhorns_own_node_goes_when_its_manager_is_gone() -> None:
    longhorn = house(held=2)
    assert forget(longhorn, "node1", Clock().deadline(30))
    assert [item["metadata"]["name"] for item in longhorn.nodes] == ["node2", "node3", "node4"]
    assert not forget(longhorn, "node1", Clock().deadline(30))
    assert not forget(Longhorn(installed=False), "node1", Clock().deadline(30))


def test_a_node_that_longhorn_will_not_let_go_is_told() -> None:
    with pytest.raises((RefusedError, DeadlineError)):
        forget(house(held=1000), "node1", Clock().deadline(30))


def test_a_node_that_comes_back_may_keep_what_fits_nowhere_else_when_another_whole_one_is_there() -> None:
    volumes = [volume("a", 3), volume("b", 1)]
    replicas = [*(replica("a", f"node{number}") for number in (1, 2, 3)), replica("b", "node1")]
    longhorn = Longhorn([node(f"node{number}") for number in (1, 2, 3)], volumes, replicas)
    assert run(longhorn, comes_back=True)[0]
    assert longhorn.on("node1") == ["a"]
    assert longhorn.on("node2") == ["a", "b"]


def test_a_node_that_comes_back_is_refused_all_the_same_with_the_last_healthy_replica() -> None:
    longhorn = Longhorn([node("node1"), node("node2", room_gb=1)], [volume("a", 1)], [replica("a", "node1")])
    with pytest.raises(RefusedError, match="no other node can take the replica of a"):
        run(longhorn, comes_back=True)


def test_a_cordoned_node_takes_no_replica() -> None:
    cordoned = node("node2")
    cordoned["status"]["conditions"].append({"type": "Schedulable", "status": "False"})
    longhorn = Longhorn([node("node1"), cordoned], [volume("a", 1)], [replica("a", "node1")])
    with pytest.raises(RefusedError, match="no other node can take the replica of a"):
        run(longhorn)


class Dying(Longhorn):
    """A Longhorn whose node1 dies after some looks, before it has given anything away."""

    looks = 0

    def look(self, path: str) -> Mapping[str, Any] | None:
        if path.endswith("/nodes"):
            self.looks += 1
            self.nodes[0]["status"]["conditions"] = [{"type": "Ready", "status": "True" if self.looks < 4 else "False"}]
        return super().look(path)


def test_a_node_that_dies_meanwhile_is_not_waited_for_when_its_volumes_are_whole_without_it() -> None:
    whole = house(stuck=True)
    longhorn = Dying(whole.nodes, whole.volumes, whole.replicas, stuck=True)
    done, said = run(longhorn, seconds=7200)
    assert done
    assert said[-1] == "node1: Longhorn does not reach it any more; its volumes are whole without it"
    assert longhorn.looks < 60


def test_a_node_that_dies_meanwhile_with_the_only_replica_stays() -> None:
    longhorn = Dying([node("node1"), node("node2")], [volume("a", 1)], [replica("a", "node1")], stuck=True)
    with pytest.raises(RefusedError, match=r"the last replica of a .* it does not answer"):
        run(longhorn, seconds=7200)
    assert longhorn.patches[-1] == {"allowScheduling": True, "evictionRequested": False}


def test_of_many_volumes_some_are_named() -> None:
    names = "abcde"
    replicas = [replica(of, f"node{number}") for of in names for number in (1, 2)]
    longhorn = Longhorn([node("node1"), node("node2")], [volume(of, 2) for of in names], replicas)
    with pytest.raises(RefusedError, match=r"the replica of a \(web/a\), b \(web/b\), c \(web/c\) and 2 more: lower"):
        run(longhorn)
