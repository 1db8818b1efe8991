"""Empties a node before its disk is written again. It is still a member then, and comes back under its name."""

from __future__ import annotations

from collections.abc import Mapping

from providers import pace
from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import HomelabError
from providers.kubernetes.client import Kube
from providers.longhorn.evacuate import evacuate
from providers.talos.client import Talos
from providers.talos.pki import ClientCert

EVACUATE_S = 7200.0
CALL_S = 10.0


def empty(node: str, control_planes: Mapping[str, str], cert: ClientCert, report: Reporter) -> None:
    """Move the replicas off a node.

    Args:
        node: its name.
        control_planes: name to address; any of them hands out the way to the Kubernetes API. Empty where there is no
            Longhorn.
        cert: for the Talos API.
        report: told what is still to move, and when nobody could be asked.

    Raises:
        RefusedError: a volume would lose by it.
    """
    if not control_planes:
        return
    kubeconfig = _kubeconfig(control_planes, cert)
    if kubeconfig is None:
        report.warn(f"{node}: no control plane answers, so nobody knows of replicas on it")
        return
    with Kube(kubeconfig) as kube:
        if evacuate(kube, node, Deadline(pace.limit(EVACUATE_S)), report.progress, comes_back=True):
            report.info(f"{node}: its replicas are on other nodes")


def _kubeconfig(control_planes: Mapping[str, str], cert: ClientCert) -> str | None:
    for address in control_planes.values():
        try:
            with Talos.secure(address, cert) as talos:
                return talos.kubeconfig(timeout_s=pace.limit(CALL_S))
        except HomelabError:
            continue
    return None
