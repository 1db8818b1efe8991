"""How a node comes into its cluster and how it leaves it, alive or dead."""

from __future__ import annotations

from collections.abc import Mapping

from providers import locks, pace
from providers.deadline import Deadline
from providers.dynamic import Props
from providers.engine import Reporter
from providers.errors import DeadlineError, HomelabError, UnreachableError
from providers.kubernetes import departure
from providers.kubernetes.client import Kube
from providers.longhorn import evacuate as longhorn
from providers.talos import leave as etcd
from providers.talos.client import Talos
from providers.talos.pki import ClientCert
from providers.talos.wire import admin

READY_S = 900.0
REGISTER_S = 90.0
VOTES_S = 600.0
EVACUATE_S = 7200.0  # a replica of 100 GB takes a quarter of an hour over gigabit Ethernet
API_S = 120.0
ONE_AFTER_THE_OTHER_S = 1800.0


def join(props: Props, report: Reporter) -> None:
    """Wait until the node takes part.

    Raises:
        DeadlineError: it is not Ready, or does not vote in etcd, within its time; says what was seen last.
    """
    with Kube(props["kubeconfig"]) as kube:
        _registered(kube, props, report)
        _ready(kube, props, report)
        kube.cordon(props["node"], Deadline(pace.limit(API_S)), unschedulable=False)
        _take_replicas(kube, props["node"])
    if props["role"] == "controlplane":
        _wait_for_vote(props, report)


def _take_replicas(kube: Kube, node: str) -> None:
    """A node that came back serves Longhorn again."""
    deadline = Deadline(pace.limit(API_S))
    kube.patiently(lambda: (longhorn.give_up(kube, node, deadline),), f"{node}: Longhorn's word on it", deadline)


def _ready(kube: Kube, props: Props, report: Reporter) -> None:
    """Wait until the Node is Ready in the present boot: after a reinstall the old Node is still there, and Ready."""
    deadline, node = Deadline(pace.limit(READY_S)), props["node"]

    def in_this_boot() -> bool | None:
        view = kube.wait_ready(node, deadline, report.progress)
        return True if view.boot_id == _boot_id(props, default=view.boot_id) else None

    deadline.poll(in_this_boot, f"{node}: Ready since its last boot", pace.interval(2))


def _boot_id(props: Props, default: str) -> str:
    """The machine's own word; one that does not answer now is no reason to wait."""
    try:
        with Talos.secure(props["address"], admin(props["os_ca"])) as talos:
            return talos.boot_id(timeout_s=pace.limit(10))
    except HomelabError:
        return default


def _registered(kube: Kube, props: Props, report: Reporter) -> None:
    """Wait until the cluster knows the node; a kubelet whose Node was deleted says so again only when it starts."""
    try:
        Deadline(pace.limit(REGISTER_S)).poll(lambda: _known(kube, props["node"]), props["node"], pace.interval(2))
    except DeadlineError:
        _restart_kubelet(props, report)


def _known(kube: Kube, node: str) -> bool | None:
    try:
        return True if kube.node(node) is not None else None
    except UnreachableError:
        return None


def _restart_kubelet(props: Props, report: Reporter) -> None:
    """Only where there is a kubelet that runs and had its time; whatever else is wrong is waited for as ever."""
    try:
        with Talos.secure(props["address"], admin(props["os_ca"])) as talos:
            kubelet = talos.services(timeout_s=pace.limit(10)).get("kubelet")
            if kubelet is not None and kubelet.state == "Running":
                talos.restart_service("kubelet", timeout_s=pace.limit(30))
                report.info("the cluster had lost its Node: its kubelet was restarted to register again")
    except HomelabError as error:
        report.info(f"its kubelet could not be asked: {error}")


def _wait_for_vote(props: Props, report: Reporter) -> None:
    report.progress("waiting for its vote in etcd")
    cert, what = admin(props["os_ca"]), f"{props['node']} ({props['address']}): a vote in etcd"
    Deadline(pace.limit(VOTES_S)).poll(lambda: _votes(props, etcd.observe(_peers(props), cert)), what, pace.interval(2))


def _votes(props: Props, seen: etcd.Etcd | None) -> bool | None:
    member = seen.member(props["node"], props["address"]) if seen else None
    return True if member is not None and not member.learner else None


def _peers(props: Props) -> Mapping[str, str]:
    return dict(props["control_planes"])


def is_gone(props: Props, report: Reporter) -> bool:
    """Whether the cluster answers and does not know the node."""
    return departure.is_unknown(props["kubeconfig"], props["node"], report)


def leave(props: Props, report: Reporter) -> None:
    """Take the node out: replicas, pods, etcd, Node object. What is done is no error; what fails leaves it as it is.

    Raises:
        RefusedError: etcd would lose its quorum, or a volume its last whole replica.
        UnreachableError: nobody is left who could take it out.
    """
    lock = f"membership of {','.join(sorted(_peers(props)))}"
    with locks.held(lock, f"taking {props['node']} out", Deadline(ONE_AFTER_THE_OTHER_S), report.progress):
        _leave(props, report)


def _leave(props: Props, report: Reporter) -> None:
    is_control_plane, cert = props["role"] == "controlplane", admin(props["os_ca"])
    if is_control_plane:
        _refuse_early(props, cert)
    with Kube(props["kubeconfig"]) as kube:
        _evacuate(kube, props["node"], report)
        departure.drain(kube, props["node"], report)
        if is_control_plane:
            etcd.leave_etcd(props["node"], props["address"], _peers(props), cert, report)
        report.progress("deleting its Node")
        _delete_node(kube, props["node"])
        _forget(kube, props["node"], report)


def _refuse_early(props: Props, cert: ClientCert) -> None:
    """Find out that the node must not leave before its pods were moved."""
    seen = etcd.observe({**_peers(props), props["node"]: props["address"]}, cert)
    if seen is not None and seen.member(props["node"], props["address"]) is not None:
        etcd.refuse_quorum_loss(seen, props["node"])


def _evacuate(kube: Kube, node: str, report: Reporter) -> None:
    """Move its replicas; an API that is away for a moment is waited for, because nobody else knows of them."""
    kube.patiently(lambda: (kube.look(longhorn.NODES),), f"{kube.server}: the API", Deadline(pace.limit(API_S)))
    if longhorn.evacuate(kube, node, Deadline(pace.limit(EVACUATE_S)), report.progress):
        report.info(f"{node}: its replicas are on other nodes")


def _forget(kube: Kube, node: str, report: Reporter) -> None:
    """Longhorn's own entry is only words by now; one that it will not let go is told, and stops nothing."""
    try:
        longhorn.forget(kube, node, Deadline(pace.limit(API_S)))
    except HomelabError as error:
        report.warn(f"{node}: is still listed by Longhorn: {error}")


def _delete_node(kube: Kube, node: str) -> None:
    """Delete it, and see that it stays away: a kubelet that restarts just then would register it again."""
    deadline = Deadline(pace.limit(API_S))
    kube.delete_node(node, deadline)
    deadline.sleep(pace.interval(5))
    kube.delete_node(node, deadline)
