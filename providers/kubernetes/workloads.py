"""Restarting what runs in the cluster, once for a reason: pods read some things only as they start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from providers.deadline import Deadline
from providers.kubernetes.client import Kube, Seen

# The same effect as `kubectl rollout restart`. A reason instead of a time: a second run of it restarts nothing.
ANNOTATION = "homelab/restarted-for"
KINDS = ("deployments", "daemonsets", "statefulsets")
_BY_HAND = "OnDelete"
_TOKENS = "/api/v1/secrets?fieldSelector=type%3Dkubernetes.io%2Fservice-account-token"


@dataclass(frozen=True)
class Workload:
    """What has pods: its path in the API, whether it was restarted for the reason, and whether that is done."""

    path: str
    restarted: bool
    done: bool

    @classmethod
    def parse(cls, kind: str, item: Mapping[str, Any], reason: str) -> Workload:
        """Take what matters out of a Deployment, DaemonSet or StatefulSet."""
        metadata, spec = item["metadata"], item["spec"]
        noted = (spec["template"].get("metadata") or {}).get("annotations") or {}
        path = f"/apis/apps/v1/namespaces/{metadata['namespace']}/{kind}/{metadata['name']}"
        return cls(path, noted.get(ANNOTATION) == reason, _rolled_out(metadata, spec, item.get("status") or {}))


def restart(kube: Kube, reason: str, deadline: Deadline) -> int:
    """Have each workload's pods replaced, as gently as the workload itself says, and wait until all are.

    Args:
        kube: the cluster.
        reason: what it is for; a workload that was restarted for it already is left alone.
        deadline: for all of them together.

    Returns:
        How many there are.

    Raises:
        DeadlineError: some are not there again; names one.
    """
    body = {"spec": {"template": {"metadata": {"annotations": {ANNOTATION: reason}}}}}
    found = list(_listed(kube, reason))
    for workload in found:
        if not workload.restarted:
            kube.merge(workload.path, body, deadline)
    seen = Seen(lambda _: None)
    kube.patiently(lambda: _none_left(kube, reason, seen), "pods restarted", deadline, seen)
    return len(found)


def _listed(kube: Kube, reason: str) -> Iterator[Workload]:
    for kind in KINDS:
        for item in (kube.look(f"/apis/apps/v1/{kind}") or {}).get("items", ()):
            yield Workload.parse(kind, item, reason)


def _none_left(kube: Kube, reason: str, seen: Seen) -> bool | None:
    left = [workload.path for workload in _listed(kube, reason) if workload.restarted and not workload.done]
    seen(f"{len(left)} are not there again, such as {left[0]}" if left else "")
    return None if left else True


def _rolled_out(metadata: Mapping[str, Any], spec: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
    if (spec.get("updateStrategy") or {}).get("type") == _BY_HAND:
        return True  # whoever wrote it replaces its pods by hand
    if int(status.get("observedGeneration", 0)) < int(metadata.get("generation", 0)):
        return False
    if "desiredNumberScheduled" in status:
        wished, new = status["desiredNumberScheduled"], status.get("updatedNumberScheduled", 0)
        return bool(new >= wished and status.get("numberAvailable", 0) >= wished)
    wished = spec.get("replicas", 1)
    return bool(status.get("updatedReplicas", 0) >= wished and status.get("availableReplicas", 0) >= wished)


def renew_tokens(kube: Kube, reason: str, deadline: Deadline) -> list[str]:
    """Have each token that is kept as a Secret made anew: Kubernetes fills in one that is missing, and no other.

    Returns:
        The paths of those that there are; those that were renewed for the reason before are left alone.
    """
    found = (kube.look(_TOKENS) or {}).get("items", ())
    paths = []
    for item in found:
        metadata = item["metadata"]
        paths.append(f"/api/v1/namespaces/{metadata['namespace']}/secrets/{metadata['name']}")
        if (metadata.get("annotations") or {}).get(ANNOTATION) != reason:
            body = {"metadata": {"annotations": {ANNOTATION: reason}}, "data": {"token": None}}
            kube.merge(paths[-1], body, deadline)
    return paths
