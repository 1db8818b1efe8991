"""What is the same about leaving in every kind of cluster: bounded, told, and never held up by what does not answer."""

from __future__ import annotations

from providers import pace
from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import DeadlineError, HomelabError, UnreachableError
from providers.kubernetes.client import Kube

DRAIN_S = 300.0


def is_unknown(kubeconfig: str, node: str, report: Reporter) -> bool:
    """Whether the cluster answers and does not know the node; an API that is away is told, and means no."""
    try:
        with Kube(kubeconfig) as kube:
            return kube.node(node) is None
    except HomelabError as error:
        report.warn(f"{node}: membership not read: {error}")
        return False


def drain(kube: Kube, node: str, report: Reporter) -> None:
    """Bounded: a pod that will not go must not keep the node for ever."""
    try:
        drained = kube.drain(node, Deadline(pace.limit(DRAIN_S)), report.progress)
    except (UnreachableError, DeadlineError) as error:
        report.warn(f"{node}: not drained: {error}")
        return
    if not drained.complete:
        left = ", ".join(str(pod) for pod in drained.left)
        report.warn(f"{node}: left after {pace.limit(DRAIN_S):.0f} s with pods still on it: {left}")
