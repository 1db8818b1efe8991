"""What a kubeadm cluster needs over the years: certificates that end, one control plane after the other."""

from __future__ import annotations

from collections.abc import Mapping

from providers import pace
from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import HomelabError
from providers.kubeadm import certificates
from providers.kubeadm.hosts import LOOK_S, Connect, Place, survey
from providers.kubeadm.wish import API_PORT, Cluster
from providers.kubernetes.client import Kube
from providers.ssh.client import connect

API_S = 300.0


def certificates_end(cluster: Cluster, places: Mapping[str, Place], report: Reporter, dial: Connect = connect) -> str:
    """The day when the first certificate of any control plane ends, as in "2027-05-01"; "" where nobody says."""
    days = []
    for name in survey(places, dial).initialised(cluster.name):
        try:
            with dial(places[name].target, LOOK_S) as host:
                days.append(certificates.first_end(certificates.ends(host)))
        except HomelabError as error:
            report.warn(f"{name}: its certificates were not read: {error}")
    return min((day for day in days if day), default="")


def renew(
    cluster: Cluster, places: Mapping[str, Place], kubeconfig: str, report: Reporter, dial: Connect = connect
) -> None:
    """Renew what is due on every control plane that answers, one after the other.

    Raises:
        DeadlineError: the API server of one did not come back; the next ones were left alone.
    """
    found = survey(places, dial)
    for name, error in sorted(found.silent.items()):
        report.warn(f"{name}: its certificates were not renewed: {error}")
    for name in found.initialised(cluster.name):
        with dial(places[name].target, LOOK_S) as host:
            if not certificates.is_due(certificates.first_end(certificates.ends(host))):
                continue
            report.progress(f"renewing the certificates of {name}")
            certificates.renew(host)
        _wait_for_api(places[name], kubeconfig)
        report.info(f"{name}: its certificates are renewed")


def wait_for(kube: Kube) -> None:
    """Wait until the API answers at the cluster's endpoint. Raises DeadlineError."""
    deadline = Deadline(pace.limit(API_S))
    kube.patiently(lambda: kube.version() or None, f"{kube.server}: the API", deadline)


def _wait_for_api(place: Place, kubeconfig: str) -> None:
    server = f"https://{place.node.node_ip}:{API_PORT}"
    with Kube(kubeconfig, server=server) as kube:
        deadline = Deadline(pace.limit(API_S))
        deadline.sleep(pace.interval(5))  # what was stopped may still answer
        deadline.poll(lambda: kube.healthy() or None, f"{place.node.where}: its API server", pace.interval(2))
