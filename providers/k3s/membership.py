"""How a host comes to be a Ready node of its k3s cluster and how it leaves it, alive or dead."""

from __future__ import annotations

from typing import Any

from providers import locks, pace
from providers.deadline import Deadline
from providers.dynamic import Props
from providers.engine import Reporter
from providers.errors import RefusedError
from providers.kubernetes import departure
from providers.kubernetes.client import Kube, NodeView

READY_S = 900.0
API_S = 120.0
MEMBER_S = 120.0
ONE_AFTER_THE_OTHER_S = 1800.0
REMOVE, REMOVED = "etcd.k3s.cattle.io/remove", departure.REMOVED


def join(props: Props, report: Reporter) -> None:
    """Wait until the node is Ready, and have pods on it. Raises DeadlineError with what was seen last."""
    with Kube(props["kubeconfig"]) as kube:
        kube.wait_ready(props["host"], Deadline(pace.limit(READY_S)), report.progress)
        kube.cordon(props["host"], Deadline(pace.limit(API_S)), unschedulable=False)


def relabel(olds: Props, news: Props) -> None:
    """Labels that the settings changed; k3s itself gives them only to a new Node."""
    labels: dict[str, Any] = {key: None for key in olds["labels"] if key not in news["labels"]}
    with Kube(news["kubeconfig"]) as kube:
        path = f"/api/v1/nodes/{news['host']}"
        kube.merge(path, {"metadata": {"labels": {**labels, **news["labels"]}}}, Deadline(pace.limit(API_S)))


def is_gone(props: Props, report: Reporter) -> bool:
    """Whether the cluster answers and does not know the node."""
    return departure.is_unknown(props["kubeconfig"], props["host"], report)


def leave(props: Props, report: Reporter) -> None:
    """Take the node out: pods, etcd, Node, password. What is done is no error; what fails leaves it as it is.

    Raises:
        RefusedError: etcd would lose its quorum.
        UnreachableError: nobody is left who could take it out.
    """
    name = str(props["host"])
    lock = f"membership of {props['cluster']}"
    with locks.held(lock, f"taking {name} out", Deadline(ONE_AFTER_THE_OTHER_S), report.progress):
        with Kube(props["kubeconfig"]) as kube:
            reason, beside = kube.patiently(
                lambda: (departure.why_not_leave(kube, name), another_server(kube, name, int(props["api_port"]))),
                f"{kube.server}: the API",
                Deadline(pace.limit(API_S)),
            )
        if reason is not None:
            raise RefusedError(f"{name}: must not leave: {reason}")
        _leave(props, beside, report)


def another_server(kube: Kube, name: str, port: int) -> str | None:
    """The own API of a server that stays; None where there is none.

    The shared address may lead to the server that leaves, whose API is silent once its etcd is out.
    """
    found = map(NodeView.parse, departure.control_planes(kube).values())
    views = [view for view in found if view.ready and view.name != name and view.addresses]
    return f"https://{views[0].addresses[0]}:{port}" if views else None


def _leave(props: Props, beside: str | None, report: Reporter) -> None:
    name = str(props["host"])
    with Kube(props["kubeconfig"], server=beside) as kube:
        departure.drain(kube, name, report)
        _leave_etcd(kube, name, report)
        report.progress("deleting its Node")
        kube.delete_node(name, Deadline(pace.limit(API_S)))
        secret = f"/api/v1/namespaces/kube-system/secrets/{name}.node-password.k3s"
        kube.remove(secret, Deadline(pace.limit(API_S)))


def _leave_etcd(kube: Kube, name: str, report: Reporter) -> None:
    """Ask k3s to take the member out, and wait for its word. Raises DeadlineError."""
    path = f"/api/v1/nodes/{name}"
    deadline = Deadline(pace.limit(MEMBER_S))
    node = kube.patiently(lambda: (kube.look(path),), path, deadline)[0]
    if node is None or REMOVED in departure.notes(node):
        return
    if departure.ETCD_ROLE not in node["metadata"].get("labels", {}):
        return
    report.progress("leaving etcd")
    kube.merge(path, {"metadata": {"annotations": {REMOVE: "true"}}}, deadline)
    kube.patiently(lambda: _is_out(kube, path), f"{name}: k3s taking it out of etcd", deadline)


def _is_out(kube: Kube, path: str) -> bool | None:
    node = kube.look(path)
    return True if node is None or departure.notes(node).get(REMOVED) else None
