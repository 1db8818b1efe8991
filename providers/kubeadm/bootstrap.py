"""`kubeadm init`, once for a cluster, decided from what ALL control planes are, never from a place in a list."""

from __future__ import annotations

from collections.abc import Mapping

from providers.engine import Reporter
from providers.errors import ProtocolError, RefusedError, UnreachableError
from providers.kubeadm import config, kubevip
from providers.kubeadm.host import ADMIN, Seen, Shell, Stage, interface, note, observe
from providers.kubeadm.hosts import Connect, Place, Survey, refuse_two_clusters, survey
from providers.kubeadm.reset import reset
from providers.kubeadm.wish import Cluster
from providers.ssh.client import connect

INIT_S = 900.0
CONFIG = "/etc/homelab/kubeadm.yaml"


def ensure(cluster: Cluster, places: Mapping[str, Place], report: Reporter, dial: Connect = connect) -> str:
    """Initialise the cluster unless one of its control planes is; gives the administrators' kubeconfig.

    Raises:
        UnreachableError: a control plane is silent while none of the others is initialised: nobody knows whether it
            has the cluster's data.
        RefusedError: there are two clusters, or one that nobody can be sure of.
    """
    report.progress("asking every control plane whether it is initialised")
    found = survey(places, dial)
    refuse_two_clusters(cluster, found)
    up = found.initialised(cluster.name)
    name = up[0] if up else chosen(cluster, places, found)
    with dial(places[name].target, 60) as host:
        if not up:
            _initialise(host, cluster, places, name, report)
        return kubeconfig(host)


def chosen(cluster: Cluster, places: Mapping[str, Place], found: Survey) -> str:
    """Who is initialised: any that holds nothing; of those, the first by name.

    Raises:
        UnreachableError: somebody is silent.
        RefusedError: somebody may hold the cluster's data and is no whole member.
    """
    if found.silent:
        said = "; ".join(f"{name}: {error}" for name, error in sorted(found.silent.items()))
        raise UnreachableError(
            f"{cluster.name}: is initialised only when every control plane says that it has no data; nothing was done "
            f"yet; {said}"
        )
    unclear = {name: seen for name, seen in found.seen.items() if not _is_free(seen)}
    if unclear:
        words = "; ".join(f"{name}: has {', '.join(seen.remains)}" for name, seen in sorted(unclear.items()))
        raise RefusedError(
            f"{cluster.name}: no control plane is a whole member, and some may hold the cluster's data; nothing was "
            f"done; {words}. Bring them back as they were, or raise `generation` of those that may be erased"
        )
    return min(places)


def _is_free(seen: Seen) -> bool:
    """Nothing is there, or only what our own `kubeadm init` began and did not end: nobody has joined that yet."""
    return not (seen.ca or seen.member or seen.control_plane or seen.etcd) or seen.claim.stage is Stage.INIT


def _initialise(host: Shell, cluster: Cluster, places: Mapping[str, Place], name: str, report: Reporter) -> None:
    node = places[name].node
    if observe(host).claim.stage is Stage.INIT:
        report.progress(f"taking back what an interrupted run began on {name}")
        reset(host)
        host.run("systemctl enable kubelet")
    note(host, cluster.name, Stage.INIT)
    if cluster.kube_vip:
        _kube_vip(host, cluster, node.node_ip, initialising=True)
    report.progress(f"kubeadm init on {name}")
    sans = config.sans(cluster, (place.node for place in places.values()))
    run_with(host, "kubeadm init", config.init(cluster, node, sans))
    if cluster.kube_vip:
        _kube_vip(host, cluster, node.node_ip)
    note(host, cluster.name, Stage.DONE)
    report.info(f"{cluster.name}: initialised on {name}")


def run_with(host: Shell, command: str, text: str) -> None:
    """Run kubeadm with a document that may hold a token: a file for root alone, and only while it runs."""
    try:
        host.write(CONFIG, text.encode(), 0o600)
        host.run(f"{command} --config {CONFIG}", timeout_s=INIT_S)
    finally:
        host.remove(CONFIG)


def _kube_vip(host: Shell, cluster: Cluster, address: str, *, initialising: bool = False) -> None:
    link = interface(host, address)
    text = kubevip.manifest(cluster, link, initialising=initialising)
    host.write(kubevip.PATH, text.encode(), 0o600)


def hold_vip(host: Shell, cluster: Cluster, address: str) -> None:
    """Have a control plane that has joined take part in holding the VIP, where kube-vip does."""
    if cluster.kube_vip:
        _kube_vip(host, cluster, address)


def kubeconfig(host: Shell) -> str:
    """The administrators' kubeconfig, as it is on a control plane. A secret.

    Raises:
        ProtocolError: there is none.
    """
    text = host.read(ADMIN)
    if text is None:
        raise ProtocolError(f"{host.target.place}: has no {ADMIN}; `kubeadm init phase kubeconfig admin` makes it anew")
    return text.decode()
