"""How a host comes into its cluster and how it leaves it, alive or dead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from providers import locks, pace
from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import ForeignNodeError, HomelabError, RefusedError
from providers.kubeadm import bootstrap, config, etcd, tokens
from providers.kubeadm.host import Shell, Stage, ca_hash, note, observe
from providers.kubeadm.hosts import Connect, Place, any_control_plane
from providers.kubeadm.reset import reset
from providers.kubeadm.wish import Cluster
from providers.kubernetes import departure
from providers.kubernetes.client import Kube
from providers.kubernetes.kubeconfig import Access
from providers.ssh.client import connect

ONE_AFTER_THE_OTHER_S = 3600.0
READY_S = 900.0
API_S = 120.0
ATTEMPTS = 2


@dataclass(frozen=True)
class Party:
    """The cluster, its control planes, and the host that comes or goes.

    Attributes:
        planes: all control planes of the settings, the host itself among them if it is one.
        kubeconfig: of an administrator. A secret.
        ready: whether to wait until its Node is Ready; without a CNI it never would be.
    """

    cluster: Cluster
    place: Place
    planes: Mapping[str, Place]
    kubeconfig: str
    ready: bool = True

    @property
    def name(self) -> str:
        """The host's."""
        return self.place.node.name

    @property
    def sans(self) -> list[str]:
        """What API servers may be called."""
        return config.sans(self.cluster, (place.node for place in self.planes.values()))


def join(party: Party, report: Reporter, dial: Connect = connect) -> None:
    """Have a host be a member; one that is already is left alone.

    Raises:
        ForeignNodeError: it belongs to another cluster.
        RefusedError: kubeadm did not do it, twice, the second time with a new token and key.
        DeadlineError: its Node is not Ready in time; says what was seen last.
    """
    with dial(party.place.target, 60) as host:
        if not _is_member(host, party):
            with _in_turn(party, report):
                _join(host, party, report, dial)
        if party.place.node.is_control_plane:
            bootstrap.hold_vip(host, party.cluster, party.place.node.node_ip)
    _wait(party, report)


def _is_member(host: Shell, party: Party) -> bool:
    seen, node = observe(host), party.place.node
    if seen.claim.stage is not Stage.DONE or not seen.is_whole(control_plane=node.is_control_plane):
        return False
    if ca_hash(seen.ca) != ca_hash(Access.parse(party.kubeconfig).ca):
        raise ForeignNodeError(
            f"{node.where}: has another CA than {party.cluster.name}; nothing was done. If what it holds may be "
            f"erased, raise `hosts.{node.name}.generation` by one"
        )
    return True


def _join(host: Shell, party: Party, report: Reporter, dial: Connect) -> None:
    """Join, once more with new credentials if the first ones were refused: they may have died on the way."""
    for attempt in range(1, ATTEMPTS + 1):
        seen = observe(host)
        if seen.claim.cluster != party.cluster.name:
            raise ForeignNodeError(
                f"{party.place.node.where}: is not prepared for {party.cluster.name}; run `up` again"
            )
        if seen.claim.stage is not Stage.PREPARED or seen.remains:
            report.progress("taking back what an interrupted run began")
            _take_back(host, party, dial)
        note(host, party.cluster.name, Stage.JOIN)
        report.progress("kubeadm join" if attempt == 1 else "kubeadm join, with a new token and key")
        try:
            with any_control_plane(party.cluster, party.planes, dial, besides=party.name) as helper:
                ticket = tokens.ticket(helper, party.cluster, party.place.node, party.sans, renew=attempt > 1)
            bootstrap.run_with(host, "kubeadm join", config.join(party.cluster, party.place.node, ticket))
        except RefusedError:
            if attempt == ATTEMPTS:
                raise
        else:
            note(host, party.cluster.name, Stage.DONE)
            return


def _take_back(host: Shell, party: Party, dial: Connect) -> None:
    """Undo half a join: also the member that etcd may have got of it."""
    if party.place.node.is_control_plane:
        with any_control_plane(party.cluster, party.planes, dial, besides=party.name) as helper:
            etcd.remove(helper, party.name)
    reset(host)
    host.run("systemctl enable kubelet")


def _wait(party: Party, report: Reporter) -> None:
    with Kube(party.kubeconfig) as kube:
        deadline = Deadline(pace.limit(READY_S))
        if party.ready:
            kube.wait_ready(party.name, deadline, report.progress)
        else:
            known = f"{party.name}: its Node"
            kube.patiently(lambda: kube.node(party.name), known, deadline)
        kube.cordon(party.name, Deadline(pace.limit(API_S)), unschedulable=False)
        if party.place.node.is_control_plane:
            _taint(kube, party)


def _taint(kube: Kube, party: Party) -> None:
    """Have ordinary pods keep away, or let them on, also where the settings changed after it had joined."""
    path = f"/api/v1/nodes/{party.name}"
    before = ((kube.look(path) or {}).get("spec") or {}).get("taints") or []
    after = [taint for taint in before if taint["key"] != config.CONTROL_PLANE_TAINT["key"]]
    after += [config.CONTROL_PLANE_TAINT] if party.cluster.taint else []
    if after != before:
        kube.merge(path, {"spec": {"taints": after}}, Deadline(pace.limit(API_S)))


def is_gone(party: Party, report: Reporter) -> bool:
    """Whether the cluster answers and does not know the host."""
    return departure.is_unknown(party.kubeconfig, party.name, report)


def leave(party: Party, report: Reporter, dial: Connect = connect) -> None:
    """Take a host out: pods, etcd, Node; a dead one too. What is done is no error.

    Raises:
        RefusedError: etcd would lose its quorum.
        UnreachableError: nobody is left who could take it out.
    """
    with _in_turn(party, report), Kube(party.kubeconfig) as kube:
        _refuse_early(party, dial)
        departure.drain(kube, party.name, report)
        if party.place.node.is_control_plane:
            report.progress("leaving etcd")
            with any_control_plane(party.cluster, party.planes, dial, besides=party.name) as helper:
                etcd.remove(helper, party.name)
        _silence(party, report, dial)
        report.progress("deleting its Node")
        kube.delete_node(party.name, Deadline(pace.limit(API_S)))


def _refuse_early(party: Party, dial: Connect) -> None:
    """Find out that a control plane must stay before its pods were moved."""
    if party.place.node.is_control_plane:
        with any_control_plane(party.cluster, party.planes, dial, besides=party.name) as helper:
            etcd.refuse_quorum_loss(etcd.members(helper), party.name)


def _silence(party: Party, report: Reporter, dial: Connect) -> None:
    """Stop the kubelet first, which would register its Node again; a dead host has none."""
    try:
        with dial(party.place.target, 30) as host:
            host.run("systemctl stop kubelet", check=False)
    except HomelabError as error:
        report.warn(f"{party.name}: taken out without its help: {error}")


@contextmanager
def _in_turn(party: Party, report: Reporter) -> Iterator[None]:
    """One after the other: etcd takes one learner at a time, and a new key to the certificates ends the last one."""
    lock, what = f"kubeadm {party.cluster.name}", f"membership of {party.name}"
    with locks.held(lock, what, Deadline(ONE_AFTER_THE_OTHER_S), report.progress):
        yield


def why_not_leave(leaving: list[str], cluster: Cluster, planes: Mapping[str, Place], dial: Connect = connect) -> str:
    """Why these control planes must not leave one after the other; "" when they may, or when nobody can be asked."""
    try:
        with any_control_plane(cluster, planes, dial) as helper:
            found = etcd.members(helper)
    except HomelabError:
        return ""
    for name in leaving:
        if (reason := found.why_not_leave(name)) is not None:
            return f"{name}: must stay: {reason}"
        found = etcd.Members({k: v for k, v in found.ids.items() if k != name}, found.healthy, found.learners)
    return ""
