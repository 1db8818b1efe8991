"""A cluster read back from its nodes, on the twin's own Talos; etcd's word comes from a server of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from providers.discovery import cluster, description
from providers.discovery.cluster import Access, Member
from providers.errors import UnreachableError, UserError
from providers.talos import methods
from providers.talos.api import talos_pb2 as pb
from providers.talos.client import Mode, Talos, probe
from providers.talos.config import NodeConfig, render
from providers.talos.schematic import Schematic, installer
from providers.talos.secrets import SecretsBundle, talosconfig
from tests.providers.discovery.house import House, house
from tests.providers.talos.conftest import Node, start_node  # noqa: F401 - a fixture
from tests.providers.turingpi.lab import forget_sessions

pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use web.ResponseKey")
BUNDLE = SecretsBundle.generate()
RECIPE = Schematic("turingrk1", ("siderolabs/iscsi-tools",))


def config(lab: House, name: str, slot: int, role: str) -> str:
    node = NodeConfig(
        cluster="cellar",
        name=name,
        role=role,
        mac=f"02:00:00:00:01:0{slot}",
        address=f"{lab.net}.1{slot}",
        vip=f"{lab.net}.9",
        subnet=f"{lab.net}.0/24",
        talos="v1.13.9",
        kubernetes="v1.36.1",
        installer=installer("https://factory.talos.dev", RECIPE.id, "v1.13.9"),
        disk="/dev/mmcblk0",
        extensions=RECIPE.extensions,
        labels={"zone": "left"},
    )
    return render(node, BUNDLE)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A control plane and a worker that run, and a module that waits for a config."""
    forget_sessions()
    with house(tmp_path_factory.mktemp("house"), {"a": {"modules": (1, 2, 3)}}) as made:
        made.flashed("a-1", "a-2", "a-3", schematic=RECIPE.id)
        for slot, role in ((1, "controlplane"), (2, "worker")):
            with Talos.insecure(f"{made.net}.1{slot}") as talos:
                talos.apply_configuration(config(made, f"node{slot}", slot, role))
        cert = BUNDLE.issue_client()
        made.until(lambda: all(probe(f"{made.net}.1{slot}", cert) is Mode.OURS for slot in (1, 2)))
        yield made


def way(lab: House, *hosts: int) -> Access:
    return Access(BUNDLE.issue_client(), tuple(f"{lab.net}.{host}" for host in hosts))


def test_every_member_is_read_from_one_endpoint(lab: House) -> None:
    found = cluster.members(way(lab, 11))
    assert [(one.name, one.address, one.leads) for one in found] == [
        ("node1", f"{lab.net}.11", True),
        ("node2", f"{lab.net}.12", False),
    ]
    assert [one.mac for one in found] == ["02:00:00:00:01:01", "02:00:00:00:01:02"]
    assert {one.network.rpartition("/")[2] for one in found} == {"24"}
    assert {one.talos for one in found} == {"v1.13.9"}
    assert {one.schematic for one in found} == {RECIPE.id}


def test_secrets_stay_out_of_what_is_printed(lab: House) -> None:
    [first, _] = cluster.members(way(lab, 11))
    assert BUNDLE.trustd_token in first.config
    assert BUNDLE.trustd_token not in repr(first)
    assert "PRIVATE KEY" not in repr(way(lab, 11))


def test_what_is_read_is_what_the_settings_say(lab: House) -> None:
    said = description.describe(cluster.members(way(lab, 11)))
    assert said.cluster["endpoint"] == {"vip": f"{lab.net}.9"}
    assert said.cluster["network"] == {"subnet": f"{lab.net}.0/24"}
    assert said.cluster["kubernetes"] == {"version": "v1.36.1"}
    assert said.nodes["node2"]["labels"] == {"zone": "left"}
    assert said.nodes["node1"]["install"] == {"disk": "/dev/mmcblk0"}


def test_a_node_that_waits_for_a_config_is_no_member(lab: House) -> None:
    with pytest.raises(UnreachableError, match=rf"no node of this talosconfig .*{lab.net}\.13 \(maintenance\)"):
        cluster.members(way(lab, 13, 99))


def test_another_clusters_certificate_opens_nothing(lab: House) -> None:
    stranger = Access(SecretsBundle.generate().issue_client(), (f"{lab.net}.11",))
    with pytest.raises(UnreachableError, match=r"\(foreign\)"):
        cluster.members(stranger)


def test_a_reader_is_no_administrator(lab: House) -> None:
    with pytest.raises(UnreachableError, match=r"role os:admin"):
        cluster.members(Access(BUNDLE.issue_client(roles=("os:reader",)), (f"{lab.net}.11",)))


def member(name: str, address: str) -> Member:
    text = "version: v1alpha1\nmachine: {type: controlplane}\ncluster: {}\n"
    return Member(name, address, "", "", "", "v1.13.9", None, (), text)


def test_etcd_counts_on_nobody_who_was_not_found(start_node: Callable[..., Node]) -> None:  # noqa: F811
    node = start_node(BUNDLE.os)
    names = ["node1", "gone"]
    counted = [pb.EtcdMember(id=number, hostname=name) for number, name in enumerate(names, 1)]
    node.answer(
        methods.ETCD_MEMBER_LIST,
        lambda _: pb.EtcdMemberListResponse(messages=[pb.EtcdMembers(members=counted)]),
    )
    cert = BUNDLE.issue_client()
    with pytest.raises(UserError, match="etcd has members that were not found: gone"):
        cluster._complete([member("node1", node.address)], cert)
    counted.pop()
    cluster._complete([member("node1", node.address)], cert)


def test_a_talosconfig_tells_whom_to_ask() -> None:
    cert = BUNDLE.issue_client()
    found = cluster.access(talosconfig("x", cert, ["10.0.0.1", "10.0.0.2"], ["10.0.0.2", "10.0.0.3"]))
    assert found.seeds == ("10.0.0.1", "10.0.0.2", "10.0.0.3")
    assert found.cert == cert
