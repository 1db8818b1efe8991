"""A host on its own: ready for kubeadm, and given back."""

from __future__ import annotations

from providers.engine import Reporter
from providers.errors import ForeignNodeError
from providers.kubeadm import packages
from providers.kubeadm.host import Seen, Shell, Stage, note, observe
from providers.kubeadm.reset import reset
from providers.kubeadm.wish import Cluster, Node


def prepare(
    host: Shell,
    cluster: Cluster,
    node: Node,
    report: Reporter,
    *,
    may_remove: bool = False,
    packages_from: str = packages.REPOSITORY,
) -> None:
    """Install what kubeadm needs, and make sure that nobody else's cluster is on the host.

    Args:
        host: the host.
        cluster: that it is to be in.
        node: the host as its member.
        report: where progress goes.
        packages_from: URL of the repositories, without the minor release.
        may_remove: whether `generation` says that what another cluster left may go, data included.

    Raises:
        ForeignNodeError: it carries another cluster, or remains of one; says how to let them go.
    """
    seen = observe(host)
    if is_foreign(seen, cluster):
        if not may_remove:
            raise ForeignNodeError(_foreign(node, seen, cluster))
        report.info(f"{node.name}: removing {', '.join(seen.remains)}")
        reset(host)
        seen = observe(host)
    report.progress(f"installing Kubernetes {cluster.version}")
    packages.ensure(host, cluster.version, packages_from)
    if seen.claim.stage is Stage.NONE:
        note(host, cluster.name, Stage.PREPARED)


def is_foreign(seen: Seen, cluster: Cluster) -> bool:
    """Whether a host carries something of Kubernetes that is not this cluster's work."""
    if seen.claim.cluster:
        return seen.claim.cluster != cluster.name
    return bool(seen.remains)


def give_back(host: Shell, cluster: Cluster, node: Node, report: Reporter) -> None:
    """Reset a host that is this cluster's; one that is another's by now is left alone."""
    seen = observe(host)
    if is_foreign(seen, cluster):
        report.warn(f"{node.name}: is not reset, as it belongs to {seen.claim.cluster or 'another cluster'} now")
        return
    report.progress("kubeadm reset")
    reset(host)


def _foreign(node: Node, seen: Seen, cluster: Cluster) -> str:
    whose = f"belongs to {seen.claim.cluster}" if seen.claim.cluster else "carries what this program did not put there"
    found = ", ".join(seen.remains) or "nothing but our note"
    return (
        f"{node.where}: {whose} ({found}); nothing was done. If all of that may be erased for {cluster.name}, raise "
        f"`hosts.{node.name}.generation` by one"
    )
