"""When a cluster can spare a node, by what was seen of it."""

from __future__ import annotations

from typing import Any

import pytest

from providers.kubernetes.client import NodeView
from providers.longhorn.scene import Scene, Volume
from providers.talos.calm import Lab, away, etcd_lack, too_few, unsettled
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
