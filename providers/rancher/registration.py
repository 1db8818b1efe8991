"""Registers a cluster with Rancher by bringing Rancher's agent into it, and takes both out again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from providers import pace
from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import DeadlineError, HomelabError, ProtocolError, RefusedError
from providers.kubeadm.host import ca_hash
from providers.kubernetes.client import Kube
from providers.kubernetes.kubeconfig import Access
from providers.rancher.client import Rancher, Registered

ACTIVE_S = 900.0
MANIFEST_S = 120.0
REMOVED_S = 600.0
OBJECT_S = 60.0
MANAGER = "homelab-rancher"


@dataclass(frozen=True)
class Wish:
    """A registration. `token` and `kubeconfig` are secrets."""

    name: str
    url: str
    token: str = field(repr=False)
    kubeconfig: str = field(repr=False)
    ca: str = ""
    description: str = ""


def ensure(wish: Wish, report: Reporter) -> tuple[str, list[str]]:
    """Have the cluster registered and its agent there; gives Rancher's id and the paths of the agent's objects.

    Raises:
        RefusedError: Rancher knows another cluster of this name.
        DeadlineError: the agent did not come up; says what Rancher last said.
    """
    pin = ca_hash(Access.parse(wish.kubeconfig).ca)
    with Rancher(wish.url, wish.token, wish.ca) as rancher:
        found = rancher.find(wish.name)
        if found is not None and found.ca != pin:
            raise RefusedError(
                f"{wish.url}: has a cluster {wish.name} ({found.id}) that is not this one; nothing was done. Remove it "
                "there, or write another rancher.name"
            )
        entry = found or rancher.create(wish.name, wish.description, pin)
        report.progress(f"{wish.name} is {entry.id} there; bringing its agent into the cluster")
        manifest = rancher.manifest(entry.id, Deadline(pace.limit(MANIFEST_S)))
        with Kube(wish.kubeconfig) as kube:
            paths = [_applied(kube, body) for body in documents(manifest)]
        _wait(rancher, entry, report)
    return entry.id, paths


def _wait(rancher: Rancher, entry: Registered, report: Reporter) -> None:
    last = entry

    def active() -> bool | None:
        nonlocal last
        last = rancher.get(entry.id) or last
        report.progress(f"waiting for its agent ({last.state})")
        return True if last.state == "active" else None

    try:
        Deadline(pace.limit(ACTIVE_S)).poll(active, f"{rancher.url}: {entry.name}: active", pace.interval(5))
    except DeadlineError as error:
        words = f" ({last.words})" if last.words else ""
        raise DeadlineError(
            f"{error}; it is {last.state}{words}; look with `kubectl -n cattle-system logs deploy/cattle-cluster-agent`"
        ) from None


def documents(manifest: str) -> list[dict[str, Any]]:
    """The objects of a manifest.

    Raises:
        ProtocolError: it holds something else. Its content is not repeated, as it is a secret.
    """
    try:
        found = [body for body in yaml.safe_load_all(manifest) if body]
    except yaml.YAMLError:
        found = []
    if not found or not all(isinstance(body, dict) and body.get("kind") and body.get("metadata") for body in found):
        raise ProtocolError("Rancher's import manifest holds no Kubernetes objects; is it behind a login page?")
    return found


def _applied(kube: Kube, body: Mapping[str, Any]) -> str:
    path = place(kube, body)
    if body["kind"] == "Namespace":  # one of a registration that was just taken back takes nothing new
        deadline = Deadline(pace.limit(OBJECT_S))
        deadline.poll(lambda: _lives(kube, path), f"{kube.server}{path}: the end of the one before", pace.interval(1))
    kube.apply(path, body, MANAGER)
    return path


def _lives(kube: Kube, path: str) -> bool | None:
    found = kube.look(path)
    return None if found is not None and found["metadata"].get("deletionTimestamp") else True


def place(kube: Kube, body: Mapping[str, Any]) -> str:
    """An object's path in the API, asked of the API itself.

    Raises:
        ProtocolError: the cluster has no such kind.
    """
    version, kind, metadata = str(body["apiVersion"]), str(body["kind"]), body["metadata"]
    group = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    for resource in (kube.look(group) or {}).get("resources", ()):
        if resource["kind"] == kind and "/" not in resource["name"]:
            inside = f"/namespaces/{metadata.get('namespace', 'default')}" if resource["namespaced"] else ""
            return f"{group}{inside}/{resource['name']}/{metadata['name']}"
    raise ProtocolError(f"{kube.server}: knows no {kind} of {version}, which Rancher's agent needs")


def end(wish: Wish, id_: str, paths: list[str], report: Reporter) -> None:
    """Take the cluster out of Rancher, which cleans up in it, then what is left of the agent; any number of times.

    Raises:
        DeadlineError: Rancher does not let go.
    """
    report.progress("taking it out of Rancher")
    with Rancher(wish.url, wish.token, wish.ca) as rancher:
        rancher.remove(id_, Deadline(pace.limit(REMOVED_S)))
    for words in _left(wish, paths):
        report.warn(words)


def _left(wish: Wish, paths: list[str]) -> Iterator[str]:
    """Remove the agent's objects, last ones first; a cluster that is away keeps them, and is told."""
    try:
        with Kube(wish.kubeconfig) as kube:
            for path in reversed(paths):
                kube.remove(path, Deadline(pace.limit(OBJECT_S)))
    except HomelabError as error:
        yield f"{wish.name}: objects of Rancher's agent are left in the cluster: {error}"


def is_gone(wish: Wish, id_: str, report: Reporter) -> bool:
    """Whether Rancher answers and does not know the cluster."""
    try:
        with Rancher(wish.url, wish.token, wish.ca) as rancher:
            return rancher.get(id_) is None
    except HomelabError as error:
        report.warn(f"{wish.name}: registration not read: {error}")
        return False
