"""The steps by which an orphan is taken out: off Longhorn, its pods, etcd, the cluster's lists, its power."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from cli.observe import Lab, endpoint
from drift.findings import Finding, Kind
from drift.judge import member_host
from drift.look import open_api
from providers import pace
from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import RefusedError
from providers.kubernetes.client import Kube
from providers.longhorn import evacuate as longhorn
from providers.longhorn import scene
from providers.talos import leave
from providers.talos.answers import EtcdMember
from providers.talos.leave import Etcd
from providers.turingpi.client import Bmc

EVACUATE_S = 7200.0
DRAIN_S = 300.0
API_S = 120.0
ANSWER_S = 20.0
IN_CLUSTER = (Kind.ORPHAN_NODE, Kind.ORPHAN_LONGHORN_NODE, Kind.ORPHAN_ETCD_MEMBER)


class Hands(Protocol):
    """What can be done to an orphan. Each step may be taken again, and raises a HomelabError where it would do harm."""

    def free(self, name: str, own: Sequence[Finding]) -> None:
        """Nothing of the cluster's is on a node any more: no replica, no pod, no vote."""

    def switch_off(self, where: str) -> None:
        """Power a slot off; `board1/4`."""

    def forget(self, finding: Finding) -> None:
        """Delete what the cluster's lists still hold of it."""


class LabHands:
    """Hands that reach into the lab."""

    def __init__(self, lab: Lab, report: Reporter) -> None:
        self._lab = lab
        self._report = report

    def free(self, name: str, own: Sequence[Finding]) -> None:
        """Its replicas move, its pods leave, then it leaves etcd.

        Raises:
            RefusedError: a volume would lose its last whole replica, or etcd its quorum; nothing was moved then.
        """
        kinds = {finding.kind: finding for finding in own}
        member = kinds.get(Kind.ORPHAN_ETCD_MEMBER)
        if member is not None:
            refuse_quorum_loss(self._etcd(), member.identity)
        if Kind.ORPHAN_NODE in kinds or Kind.ORPHAN_LONGHORN_NODE in kinds:
            with open_api(self._lab) as kube:
                empty(kube, name, self._report)
        if member is not None:
            self._leave_etcd(member)

    def switch_off(self, where: str) -> None:
        """Hard, as its owner would at the board."""
        board, _, slot = where.partition("/")
        self._report.progress(f"{where}: powering it off")
        with Bmc.connect(endpoint(self._lab.settings.boards[board]), ANSWER_S) as bmc:
            bmc.set_power({int(slot): False})

    def forget(self, finding: Finding) -> None:
        """A member of etcd is forgotten by having left."""
        delete = _LISTS.get(finding.kind)
        if delete is not None:
            self._report.progress(f"{finding.name}: deleting its entry ({finding.kind})")
            with open_api(self._lab) as kube:
                delete(kube, finding.name, Deadline(pace.limit(API_S)))

    def _etcd(self) -> Etcd:
        cert = self._lab.certificate
        found = leave.observe(self._lab.control_planes, cert) if cert else None
        if found is None:
            raise RefusedError("no control plane says who is in etcd, so it can't be known what its leaving costs")
        return found

    def _leave_etcd(self, member: Finding) -> None:
        listed, cert = lone_member(self._etcd(), member.identity), self._lab.certificate
        if listed is not None and cert is not None:
            self._report.progress(f"{member.name}: leaving etcd")
            leave.leave_etcd(listed.hostname, member_host(listed), self._lab.control_planes, cert, self._report)


def refuse_quorum_loss(etcd: Etcd, identity: str) -> None:
    """Stop before anything of a member is moved.

    Raises:
        RefusedError: etcd would lose its quorum.
    """
    listed = _listed(etcd, identity)
    if listed is not None and not listed.learner:
        leave.refuse_quorum_loss(etcd, listed.hostname)


def lone_member(etcd: Etcd, identity: str) -> EtcdMember | None:
    """The member of an id; None when it is gone.

    Raises:
        RefusedError: others have its name, as all have that never started; which one is meant could be mistaken.
    """
    listed = _listed(etcd, identity)
    namesakes = [member for member in etcd.members if listed is not None and member.hostname == listed.hostname]
    if listed is not None and len(namesakes) > 1:
        called = listed.hostname or "nothing"
        raise RefusedError(f"{len(namesakes)} members of etcd are called {called}; wait until they have started")
    return listed


def _listed(etcd: Etcd, identity: str) -> EtcdMember | None:
    return next((member for member in etcd.members if f"{member.id:x}" == identity), None)


def empty(kube: Kube, name: str, report: Reporter) -> None:
    """Move the replicas off a node, then its pods. Pods that will not go are told, and stop nothing.

    Raises:
        RefusedError: a volume's last whole replica is on it, or has no place elsewhere.
    """
    found = scene.observe(kube)
    if found is not None and name in found.nodes:
        longhorn.evacuate(kube, name, Deadline(pace.limit(EVACUATE_S)), report.progress)
    if kube.node(name) is None:
        return
    report.progress(f"{name}: draining it")
    left = kube.drain(name, Deadline(pace.limit(DRAIN_S)), report.progress).left
    if left:
        report.warn(f"{name}: pods that did not leave: {', '.join(str(pod) for pod in left)}")


_LISTS: dict[Kind, Callable[[Kube, str, Deadline], bool]] = {
    Kind.ORPHAN_NODE: Kube.delete_node,
    Kind.ORPHAN_LONGHORN_NODE: longhorn.forget,
}
