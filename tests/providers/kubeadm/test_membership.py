"""Coming and going on played hosts; the Nodes are a real API server's, as are their pods and their going."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from providers.engine import Reporter
from providers.errors import ForeignNodeError, RefusedError, UnreachableError
from providers.kubeadm import bootstrap, etcd, machine, membership, upkeep
from providers.kubeadm.host import CLAIM, Stage, claim
from providers.kubeadm.membership import Party
from providers.kubernetes.client import Kube
from providers.kubernetes.kubeconfig import Access
from tests.providers.kubeadm.played import CLUSTER, World
from tests.providers.kubernetes.servers import Cluster as Api
from tests.providers.kubernetes.wire import Authority

REPORT = Reporter("")
PLANES = ("cp1", "cp2", "cp3")


class Lab:
    """Three control planes and a worker, prepared; the first one is initialised."""

    def __init__(self, api: Api) -> None:
        for item in api.get("/api/v1/nodes")["items"]:
            api.end(f"/api/v1/nodes/{item['metadata']['name']}")
        self.world = World(kubeconfig=api.kubeconfig, ca=Access.parse(api.kubeconfig).ca, api=api)
        self.planes = {name: self.world.add(name) for name in PLANES}
        self.worker = self.world.add("w1", "worker")
        for place in (*self.planes.values(), self.worker):
            machine.prepare(self.world.hosts[place.node.name], CLUSTER, place.node, REPORT)
        bootstrap.ensure(CLUSTER, self.planes, REPORT, self.world.dial)

    def party(self, name: str) -> Party:
        place = {**self.planes, "w1": self.worker}[name]
        return Party(CLUSTER, place, self.planes, self.world.kubeconfig)

    def join(self, *names: str) -> None:
        for name in names:
            membership.join(self.party(name), REPORT, self.world.dial)

    def leave(self, name: str) -> None:
        membership.leave(self.party(name), REPORT, self.world.dial)

    def nodes(self) -> set[str]:
        with Kube(self.world.kubeconfig) as kube:
            return {node.name for node in kube.nodes()}


@pytest.fixture
def lab(api: Api, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("HOMELAB_TIME_SCALE", "0.01")
    return Lab(api)


def test_all_join_and_again_nothing_happens(lab: Lab):
    lab.join(*PLANES, "w1")
    assert lab.nodes() == {*PLANES, "w1"}
    assert set(lab.world.etcd) == set(PLANES)
    begin = {name: len(host.log) for name, host in lab.world.hosts.items()}
    lab.join(*PLANES, "w1")
    for name, host in lab.world.hosts.items():
        assert not [line for line in host.log[begin[name] :] if "join" in line or "token" in line]


def test_the_one_that_was_initialised_first_goes_and_comes_back_as_any_other(lab: Lab):
    lab.join(*PLANES)
    lab.leave("cp1")
    assert lab.nodes() == {"cp2", "cp3"}
    assert set(lab.world.etcd) == {"cp2", "cp3"}
    host = lab.world.hosts["cp1"]
    machine.give_back(host, CLUSTER, lab.planes["cp1"].node, REPORT)
    machine.prepare(host, CLUSTER, lab.planes["cp1"].node, REPORT)
    bootstrap.ensure(CLUSTER, lab.planes, REPORT, lab.world.dial)
    lab.join("cp1")
    assert lab.nodes() == set(PLANES)
    assert len(lab.world.lines("kubeadm init --config")) == 1


def test_a_dead_host_is_taken_out_by_the_others(lab: Lab):
    lab.join(*PLANES)
    lab.world.hosts["cp3"].alive = False
    lab.leave("cp3")
    assert lab.nodes() == {"cp1", "cp2"}
    assert set(lab.world.etcd) == {"cp1", "cp2"}


def test_a_second_loss_is_refused_before_a_pod_is_moved(lab: Lab):
    lab.join(*PLANES)
    lab.world.hosts["cp3"].alive = False
    with pytest.raises(RefusedError, match=r"cp2: must stay.*bring back or take out cp3 first"):
        lab.leave("cp2")
    with Kube(lab.world.kubeconfig) as kube:
        node = kube.node("cp2")
    assert node is not None
    assert not node.unschedulable


def test_it_is_refused_before_anything_where_the_settings_change(lab: Lab):
    lab.join(*PLANES)
    ask = lambda leaving: membership.why_not_leave(leaving, CLUSTER, lab.planes, lab.world.dial)  # noqa: E731
    assert ask(["cp3"]) == ""
    assert ask(["cp1", "cp2"]) == ""
    assert "is the last control plane" in ask([*PLANES])
    lab.world.hosts["cp3"].alive = False
    assert "cp1: must stay" in ask(["cp1"])
    assert ask(["cp3"]) == ""


def test_a_token_that_died_on_the_way_is_made_anew(lab: Lab):
    lab.join("cp2")
    (old,) = lab.world.tokens
    lab.world.now += timedelta(hours=3)  # the cluster's clock, by which it refuses; ours still takes it for good
    lab.join("w1")
    assert len(lab.world.lines("kubeadm join")) == 3
    assert "w1" in lab.nodes()
    assert set(lab.world.tokens) > {old}


def test_every_control_plane_gets_a_key_of_its_own(lab: Lab):
    lab.join("cp2", "cp3", "w1")
    assert lab.world.uploads == 2
    assert len(lab.world.tokens) == 1


@pytest.mark.parametrize("when", ["cut_before", "cut_after"])
@pytest.mark.parametrize("name", ["cp2", "w1"])
def test_a_run_that_ends_within_a_join_is_repeated_by_the_next(lab: Lab, name: str, when: str):
    setattr(lab.world.hosts[name], when, "kubeadm join")
    with pytest.raises(UnreachableError):
        lab.join(name)
    _forgotten(lab, name)
    lab.join(name)
    assert claim(lab.world.hosts[name]).stage is Stage.DONE
    assert name in lab.nodes()
    assert len(lab.world.etcd) == (2 if name == "cp2" else 1)


def _forgotten(lab: Lab, name: str) -> None:
    """The played kubeadm makes Nodes and doesn't take one that is there; a kubelet does."""
    assert lab.world.api is not None
    lab.world.api.end(f"/api/v1/nodes/{name}")


def test_a_join_that_kubeadm_refuses_twice_says_why(lab: Lab):
    def refused(_: str) -> str:
        from tests.providers.kubeadm.played import Refuse

        raise Refuse("[ERROR Mem]: the system RAM is less than the minimum")

    host = lab.world.hosts["w1"]
    host._table = [(p, refused if p.startswith("kubeadm join") else a) for p, a in host._table]
    with pytest.raises(RefusedError, match="RAM is less"):
        lab.join("w1")
    assert len(lab.world.lines("kubeadm join")) == 2
    assert not [name for name in host.files if name.startswith("/etc/homelab/") and name != CLAIM]


def test_a_member_of_a_cluster_with_another_ca_is_told_apart(lab: Lab):
    lab.join("w1")
    host = lab.world.hosts["w1"]
    host.files["/etc/kubernetes/pki/ca.crt"] = Authority().pem.encode()
    with pytest.raises(ForeignNodeError, match=r"w1 .*another CA than garage.*hosts\.w1\.generation"):
        lab.join("w1")


def test_with_no_control_plane_up_it_says_what_was_seen(lab: Lab):
    lab.world.hosts["cp1"].alive = False
    with pytest.raises(UnreachableError, match=r"no control plane is up to help; cp1: .*no SSH.*; cp2: is no member"):
        lab.join("w1")


def test_joins_go_one_after_the_other(lab: Lab):
    """Two uploads at once would give one of the hosts a key to nothing."""
    import threading

    errors: list[BaseException] = []

    def run(name: str) -> None:
        try:
            lab.join(name)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("cp2", "cp3", "w1")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert lab.nodes() == {*PLANES, "w1"}


def test_without_a_cni_nobody_waits_until_it_is_ready(lab: Lab):
    assert lab.world.api is not None
    party = replace(lab.party("w1"), ready=False)
    object.__setattr__(lab.world, "api", Unready(lab.world.api))
    membership.join(party, REPORT, lab.world.dial)
    assert "w1" in lab.nodes()


class Unready:
    """An API whose Nodes never become Ready."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def make(self, path: str, body: dict[str, object]) -> dict[str, object]:
        return self._api.make(path, body)

    def patch(self, path: str, body: dict[str, object]) -> dict[str, object]:
        return {}


def test_what_etcdctl_prints():
    listed = '{"members":[{"ID":160,"name":"cp1","clientURLs":["https://10.0.0.11:2379"]},{"ID":161,"peerURLs":["x"]}]}'
    found = etcd.parsed(listed, '[{"endpoint":"https://10.0.0.11:2379","health":true}]')
    assert found == etcd.Members({"cp1": "a0"}, frozenset({"cp1"}))


def test_the_taint_follows_the_settings_after_the_join(lab: Lab):
    def taints() -> list[str]:
        with Kube(lab.world.kubeconfig) as kube:
            return [t["key"] for t in (kube.look("/api/v1/nodes/cp1") or {})["spec"].get("taints", [])]

    tainted = replace(lab.party("cp1"), cluster=replace(CLUSTER, taint=True))
    lab.join("cp1")
    assert "node-role.kubernetes.io/control-plane" not in taints()
    membership.join(tainted, REPORT, lab.world.dial)
    assert "node-role.kubernetes.io/control-plane" in taints()
    lab.join("cp1")
    assert "node-role.kubernetes.io/control-plane" not in taints()


def test_certificates_are_renewed_where_they_are_due_one_host_after_the_other(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
):
    lab.join(*PLANES)
    soon = datetime.now(UTC) + timedelta(days=10)
    for name in ("cp1", "cp3"):
        lab.world.hosts[name].certificates_end = soon
    order: list[str] = []
    monkeypatch.setattr(upkeep, "_wait_for_api", lambda place, _: order.append(place.node.name))
    assert upkeep.certificates_end(CLUSTER, lab.planes, REPORT, lab.world.dial) == soon.date().isoformat()
    lab.world.hosts["cp2"].alive = False
    upkeep.renew(CLUSTER, lab.planes, lab.world.kubeconfig, REPORT, lab.world.dial)
    assert order == ["cp1", "cp3"]
    assert [line.split(":")[0] for line in lab.world.lines("certs renew")] == ["cp1", "cp3"]
    assert upkeep.certificates_end(CLUSTER, lab.planes, REPORT, lab.world.dial) > soon.date().isoformat()
