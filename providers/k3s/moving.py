"""An agent that goes to another cluster: it leaves the one that it is in, and nothing of that stays on the host."""

from __future__ import annotations

from providers.dynamic import Props
from providers.engine import Reporter
from providers.k3s import access, membership, node


def away(olds: Props, report: Reporter) -> None:
    """Take it out of its old cluster, then remove k3s from it. What is done is no error, so it may be repeated.

    Args:
        olds: of the node, as it is in the old cluster.
        report: told what is done.

    Raises:
        UnreachableError, RefusedError, DeadlineError: the old cluster does not let it go; nothing was removed.
    """
    report.info(f"leaves {olds['cluster']}")
    asked = {"cluster": olds["cluster"], "servers": olds["servers"], "endpoint": olds["registration"]}
    membership.leave({**olds, "kubeconfig": access.kubeconfig(asked, report)}, report)
    node.remove(olds, report)
