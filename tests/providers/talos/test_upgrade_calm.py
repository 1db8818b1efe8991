"""When a cluster can spare a node, by what was seen of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from providers.engine import Reporter
from providers.errors import RefusedError, UnreachableError, UpgradeError
from providers.kubernetes.client import NodeView
from providers.longhorn.scene import Scene, Volume
from providers.talos.calm import Calm, Lab, away, etcd_lack, too_few, unsettled
from providers.talos.client import EtcdMember
from providers.talos.leave import Etcd
from providers.talos.pki import ClientCert

PLANES = {f"cp{n}": f"10.0.0.{n}" for n in (1, 2, 3)}
CERT = ClientCert("", "", "")


def etcd(*names: str, healthy: tuple[str, ...] | None = None, learner: str = "") -> Etcd:
    members = tuple(
        EtcdMember(n, name, (f"https://10.0.0.{n}:2380",), (), learner=name == learner)
        for n, name in enumerate(names, 1)
    )
    return Etcd("10.0.0.1", members, frozenset(names if healthy is None else healthy))


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (etcd("cp1", "cp2", "cp3"), ""),
        (None, "no control plane says who is in etcd"),
        (etcd("cp1", "cp2"), "cp3 is not in etcd"),
        (etcd("cp1", "cp2", "cp3", learner="cp3"), "cp3 does not vote in etcd yet"),
        (etcd("cp1", "cp2", "cp3", healthy=("cp1", "cp3")), "etcd on cp2 is not healthy"),
    ],
)
def test_etcd_is_whole_or_says_what_lacks(seen: Etcd | None, words: str) -> None:
    assert etcd_lack(seen, PLANES) == words


def test_one_of_two_members_is_never_spared_and_a_single_one_is() -> None:
    assert "neither can be spared" in too_few(etcd("cp1", "cp2"))
    assert too_few(etcd("cp1")) == ""
    assert too_few(etcd("cp1", "cp2", "cp3")) == ""


def view(name: str, *, ready: bool = True) -> NodeView:
    return NodeView(name, name, ready, "", "boot", "v1.36.1", (), unschedulable=False)


@pytest.mark.parametrize(
    ("gone", "busy", "most", "words"),
    [
        ((), (), 1, ""),
        (("w2",), (), 1, "w2 is not Ready, and cluster.talos.max_unavailable is 1"),
        (("w2",), (), 2, ""),
        (("w1",), (), 1, ""),  # the node itself
        (("w2",), ("w2",), 2, ""),  # this run's own doing
        (("w2", "w3"), ("w2",), 2, "w3 is not Ready, and cluster.talos.max_unavailable is 2"),
        (("cp1",), (), 1, ""),  # etcd's health says more of it
    ],
)
def test_workers_that_are_away_count(gone: tuple[str, ...], busy: tuple[str, ...], most: int, words: str) -> None:
    workers = ("w1", "w2", "w3")
    nodes = [view(name, ready=name not in gone) for name in ("cp1", *workers)]
    lab = Lab("w1", "worker", PLANES, CERT, most)
    assert away(nodes, workers, lab, busy) == words


def scene(**robustness: str) -> Scene:
    volumes: dict[str, Any] = {
        name: Volume(name, 1, 3, "detached" if how == "unknown" else "attached", how, "")
        for name, how in robustness.items()
    }
    return Scene({}, volumes, (), shares_nodes=False)


def test_volumes_without_all_replicas_are_named_but_not_many() -> None:
    assert unsettled(None) == ""
    assert unsettled(scene(a="healthy", b="unknown")) == ""
    assert unsettled(scene(a="degraded", b="healthy")) == "Longhorn rebuilds a"
    many = scene(**dict.fromkeys("abcde", "degraded"))
    assert unsettled(many) == "Longhorn rebuilds a, b, c and 2 more"


class Played(Calm):
    """Looks at an etcd and at nodes that change with each look."""

    def __init__(self, lab: Lab, looks: list[Etcd | None], nodes: list[dict[str, Any]]) -> None:
        super().__init__(lab, Reporter(""))
        self.looks, self.nodes, self.opened = looks, nodes, False

    def _etcd(self) -> Etcd | None:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    @contextmanager
    def _kube(self) -> Iterator[Any]:
        item = self.nodes.pop(0) if len(self.nodes) > 1 else self.nodes[0]
        if not item:
            raise UnreachableError("the VIP moves")
        yield _Api(self, item)


class _Api:
    def __init__(self, played: Played, item: dict[str, Any]) -> None:
        self._played, self._item = played, item

    def node(self, name: str) -> NodeView:
        return NodeView.parse(self._item)

    def nodes(self) -> tuple[NodeView, ...]:
        return (NodeView.parse(self._item),)

    def look(self, path: str) -> Any:
        return self._item if path.startswith("/api/v1/nodes/") else None

    def cordon(self, name: str, deadline: Any, *, unschedulable: bool) -> bool:
        self._played.opened = not unschedulable
        return True


def node(*, ready: bool = True, closed: bool = False, by_talos: bool = False, boot: str = "boot-2") -> dict[str, Any]:
    condition = {"type": "Ready", "status": str(ready), "message": "PLEG is not healthy"}
    status = {"conditions": [condition], "nodeInfo": {"bootID": boot}}
    annotations = {"talos.dev/cordoned": "true"} if by_talos else {}
    metadata = {"name": "cp1", "uid": "u", "annotations": annotations}
    return {"metadata": metadata, "spec": {"unschedulable": closed}, "status": status}


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMELAB_TIME_SCALE", "0.001")
    monkeypatch.setattr("providers.pace.MIN_LIMIT_S", 0.5)


WHOLE = etcd("cp1", "cp2", "cp3")
LEADING = Lab("cp1", "controlplane", PLANES, CERT)


@pytest.mark.usefixtures("_quick")
def test_a_node_is_spared_once_etcd_is_whole_and_the_api_is_back() -> None:
    calm = Played(LEADING, [WHOLE, None, etcd("cp1", "cp2"), WHOLE], [{}, node()])
    calm.before()


@pytest.mark.usefixtures("_quick")
def test_what_lacks_to_the_end_is_in_the_refusal() -> None:
    calm = Played(LEADING, [etcd("cp1", "cp2", "cp3", healthy=("cp1",))], [node()])
    with pytest.raises(RefusedError, match=r"cp1: not upgraded: etcd on cp2, cp3 is not healthy, for .*homelab status"):
        calm.before()


@pytest.mark.usefixtures("_quick")
def test_one_of_two_control_planes_is_refused_at_once() -> None:
    with pytest.raises(RefusedError, match="etcd has two members"):
        Played(LEADING, [etcd("cp1", "cp2")], [node()]).before()


@pytest.mark.usefixtures("_quick")
def test_a_node_is_back_when_it_is_ready_in_its_new_boot() -> None:
    calm = Played(LEADING, [WHOLE], [node(boot="boot-1"), node(ready=False), node(), node()])
    calm.after("boot-2")
    assert not calm.opened
    with pytest.raises(UpgradeError, match=r"is upgraded, but the cluster is not whole: its Node is not Ready \(PLEG"):
        Played(LEADING, [WHOLE], [node(ready=False)]).after("boot-2")


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize(
    ("there", "opened"),
    [
        (node(), False),  # Talos has opened it itself
        (node(closed=True), False),  # by its owner's hand
        (node(closed=True, by_talos=True), True),
    ],
)
def test_a_node_is_opened_again_unless_its_owner_had_closed_it(there: dict[str, Any], *, opened: bool) -> None:
    calm = Played(LEADING, [WHOLE], [there])
    calm.after("boot-2")
    assert calm.opened is opened
