"""Who is initialised, decided from all control planes; and what an interrupted run leaves."""

import pytest

from providers.engine import Reporter
from providers.errors import ForeignNodeError, RefusedError, UnreachableError
from providers.kubeadm import bootstrap, machine
from providers.kubeadm.host import CLAIM, Claim, Stage, claim, note
from providers.kubeadm.hosts import Place
from providers.kubeadm.wish import Cluster
from tests.providers.kubeadm.played import CLUSTER, World
from tests.providers.kubernetes.wire import Authority

REPORT = Reporter("")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def planes(world: World) -> dict[str, Place]:
    places = {name: world.add(name) for name in ("cp1", "cp2", "cp3")}
    for place in places.values():
        prepared(world, place)
    return places


def prepared(world: World, place: Place, cluster: Cluster = CLUSTER, *, may_remove: bool = False) -> None:
    machine.prepare(world.hosts[place.node.name], cluster, place.node, REPORT, may_remove=may_remove)


def inits(world: World) -> list[str]:
    return [line.split(":")[0] for line in world.lines("kubeadm init --config")]


def test_one_control_plane_is_initialised_once(world: World, planes: dict[str, Place]):
    assert bootstrap.ensure(CLUSTER, planes, REPORT, world.dial) == world.kubeconfig
    assert bootstrap.ensure(CLUSTER, planes, REPORT, world.dial) == world.kubeconfig
    assert inits(world) == ["cp1"]
    assert claim(world.hosts["cp1"]) == Claim("garage", Stage.DONE)


def test_it_is_not_the_first_of_a_list_that_counts(world: World, planes: dict[str, Place]):
    bootstrap.ensure(CLUSTER, {"cp3": planes["cp3"]}, REPORT, world.dial)
    bootstrap.ensure(CLUSTER, planes, REPORT, world.dial)
    assert inits(world) == ["cp3"]


def test_the_host_that_began_may_be_gone_for_good(world: World, planes: dict[str, Place]):
    bootstrap.ensure(CLUSTER, {"cp2": planes["cp2"]}, REPORT, world.dial)
    world.hosts["cp1"].alive = False
    assert bootstrap.ensure(CLUSTER, planes, REPORT, world.dial) == world.kubeconfig
    assert inits(world) == ["cp2"]


def test_while_one_is_silent_nobody_is_initialised(world: World, planes: dict[str, Place]):
    world.hosts["cp3"].alive = False
    with pytest.raises(UnreachableError, match=r"only when every control plane says.*cp3: cp3 .*no SSH"):
        bootstrap.ensure(CLUSTER, planes, REPORT, world.dial)
    assert inits(world) == []


def test_a_host_with_data_and_no_whole_cluster_is_not_passed_over(world: World, planes: dict[str, Place]):
    world.hosts["cp2"].files["/var/lib/etcd/member/wal"] = b"data"
    with pytest.raises(RefusedError, match="cp2: has etcd's data"):
        bootstrap.ensure(CLUSTER, planes, REPORT, world.dial)
    assert inits(world) == []


@pytest.mark.parametrize("when", ["cut_before", "cut_after"])
def test_a_run_that_ends_within_init_is_repeated_by_the_next(world: World, planes: dict[str, Place], when: str):
    setattr(world.hosts["cp1"], when, "kubeadm init --config")
    with pytest.raises(UnreachableError):
        bootstrap.ensure(CLUSTER, planes, REPORT, world.dial)
    world.etcd.clear()  # its only member is reset by the next run
    bootstrap.ensure(CLUSTER, planes, REPORT, world.dial)
    assert set(inits(world)) == {"cp1"}
    assert claim(world.hosts["cp1"]).stage is Stage.DONE


def test_two_clusters_of_one_name_are_refused(world: World, planes: dict[str, Place]):
    bootstrap.ensure(CLUSTER, {"cp1": planes["cp1"]}, REPORT, world.dial)
    world.ca = Authority().pem
    world.etcd.clear()
    bootstrap.ensure(CLUSTER, {"cp2": planes["cp2"]}, REPORT, world.dial)
    with pytest.raises(RefusedError, match="cp1 and cp2 have different CAs"):
        bootstrap.ensure(CLUSTER, planes, REPORT, world.dial)


def test_no_document_with_secrets_stays(world: World, planes: dict[str, Place]):
    bootstrap.ensure(CLUSTER, planes, REPORT, world.dial)
    assert not [
        name
        for host in world.hosts.values()
        for name in host.files
        if name.startswith("/etc/homelab/") and name != CLAIM
    ]


def test_kube_vip_begins_with_the_super_admin_and_goes_on_without(world: World, planes: dict[str, Place]):
    cluster = Cluster("garage", "v1.36.1", "10.0.0.5", vip="10.0.0.5", kube_vip="ghcr.io/kube-vip/kube-vip:v1.2.3")
    seen: list[bytes] = []
    host = world.hosts["cp1"]
    original = host._init

    def watched(path: str) -> str:
        seen.append(host.files["/etc/kubernetes/manifests/kube-vip.yaml"])
        return original(path)

    host._table = [(p, watched if p.startswith("kubeadm init --config") else action) for p, action in host._table]
    bootstrap.ensure(cluster, planes, REPORT, world.dial)
    assert b"super-admin.conf" in seen[0]
    after = host.files["/etc/kubernetes/manifests/kube-vip.yaml"]
    assert b"super-admin" not in after
    assert b"value: eth0" in after


def test_remains_of_a_cluster_are_removed_only_where_the_settings_say_so(world: World):
    place = world.add("cp1")
    host = world.hosts["cp1"]
    host.version = "v1.30.0"
    host.files["/etc/cni/net.d/10-calico.conflist"] = b"{}"
    with pytest.raises(ForeignNodeError, match=r"10-calico.*raise `hosts\.cp1\.generation` by one"):
        prepared(world, place)
    assert host.files, "nothing was touched"
    prepared(world, place, may_remove=True)
    assert not any("calico" in name for name in host.files)
    assert host.version == "v1.36.1"


def test_another_clusters_host_is_refused_and_not_reset(world: World):
    place = world.add("cp1")
    host = world.hosts["cp1"]
    note(host, "attic", Stage.DONE)
    with pytest.raises(ForeignNodeError, match="belongs to attic"):
        prepared(world, place)
    machine.give_back(host, CLUSTER, place.node, REPORT)
    assert claim(host).cluster == "attic"
    assert not world.lines("kubeadm reset")


def test_preparing_again_changes_nothing(world: World, planes: dict[str, Place]):
    begin = len(world.hosts["cp1"].log)
    prepared(world, planes["cp1"])
    again = world.hosts["cp1"].log[begin:]
    assert not [line for line in again if "apt-get" in line or "restart" in line]


def test_given_back_nothing_of_kubernetes_is_left(world: World, planes: dict[str, Place]):
    bootstrap.ensure(CLUSTER, planes, REPORT, world.dial)
    host = world.hosts["cp1"]
    host.files["/etc/cni/net.d/10-flannel.conflist"] = b"{}"
    machine.give_back(host, CLUSTER, planes["cp1"].node, REPORT)
    left = [name for name in host.files if name.startswith(("/etc/kubernetes", "/etc/cni", "/var/lib", "/etc/homelab"))]
    assert left == []
    assert [line for line in host.log if "ip link delete cni0" in line]
    assert host.fed["iptables-restore"] == b"*nat\n:OWN - [0:0]\n-A OUTPUT -j OWN\nCOMMIT\n"
    machine.give_back(host, CLUSTER, planes["cp1"].node, REPORT)
