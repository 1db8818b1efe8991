"""The clusters beside the one of Talos, tenants among them, and the machines that are no Talos nodes on boards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from cli import credentials
from cli.stacks import Stack
from providers.errors import HomelabError
from providers.kubernetes.client import Kube, NodeView
from settings import Settings

ANSWER_S = 4.0
TENANT = "tenant"


@dataclass(frozen=True)
class ClusterStatus:
    """One cluster.

    Attributes:
        kind: "k3s", "kubeadm" or "tenant".
        endpoint: URL of its API; "" before its first `up`.
        api: "answering", "unreachable", or "unknown" before its first `up`.
        kubernetes: the API's version.
    """

    name: str
    kind: str
    endpoint: str
    api: str
    kubernetes: str | None


@dataclass(frozen=True)
class MachineStatus:
    """One host, or one machine of a pool.

    Attributes:
        cluster: the one that it is in by the settings.
        ready: Kubernetes' word; None when nobody could be asked.
    """

    name: str
    cluster: str
    role: str
    address: str
    ready: bool | None


Answer = tuple[str, str, dict[str, NodeView]]  # endpoint, version, nodes


def observe(stack: Stack, settings: Settings) -> tuple[list[ClusterStatus], list[MachineStatus]]:
    """Ask them all at once. Raises nothing for what does not answer."""
    kinds = _kinds(settings)
    given = {name: _kubeconfig(stack, name, kind) for name, kind in kinds.items()}
    asked = dict(given)
    if any(pool.machines for pool in settings.pools.values()):
        asked[settings.cluster.name] = credentials.kubeconfig(stack)
    if not asked:
        return [], []
    with ThreadPoolExecutor(len(asked)) as threads:
        answers = {name: threads.submit(_ask, text) for name, text in asked.items() if text is not None}
        found = {name: answer for name, future in answers.items() if (answer := _result(future)) is not None}
    clusters = [_cluster(name, kind, given[name], found.get(name)) for name, kind in kinds.items()]
    return clusters, list(_machines(settings, found))


def _kinds(settings: Settings) -> dict[str, str]:
    further = {name: cluster.distribution for name, cluster in settings.clusters.items()}
    return {**further, **dict.fromkeys(settings.tenants, TENANT)}


def _kubeconfig(stack: Stack, name: str, kind: str) -> str | None:
    folder = credentials.TENANTS if kind == TENANT else credentials.CLUSTERS
    return credentials.kubeconfig_of(stack, folder, name)


def _ask(kubeconfig: str) -> Answer:
    with Kube(kubeconfig, timeout_s=ANSWER_S) as kube:
        return kube.server, kube.version(), {view.name: view for view in kube.nodes()}


def _result(future: Future[Answer]) -> Answer | None:
    try:
        return future.result()
    except HomelabError:
        return None


def _cluster(name: str, kind: str, kubeconfig: str | None, answer: Answer | None) -> ClusterStatus:
    if answer is not None:
        return ClusterStatus(name, kind, answer[0], "answering", answer[1])
    if kubeconfig is None:
        return ClusterStatus(name, kind, "", "unknown", None)
    with Kube(kubeconfig) as kube:
        return ClusterStatus(name, kind, kube.server, "unreachable", None)


def _machines(settings: Settings, found: Mapping[str, Answer]) -> Iterator[MachineStatus]:
    for host in settings.hosts.values():
        address = str(host.address) if host.address is not None else ""
        yield _machine(host.name, host.cluster, host.role.value, address, found)
    for pool in settings.pools.values():
        cluster = pool.cluster or settings.cluster.name
        for name, machine in pool.machines.items():
            yield _machine(name, cluster, "worker", str(machine.address or ""), found)


def _machine(name: str, cluster: str, role: str, address: str, found: Mapping[str, Answer]) -> MachineStatus:
    answer = found.get(cluster)
    if answer is None:
        return MachineStatus(name, cluster, role, address, None)
    view = answer[2].get(name)
    seen = address or (view.addresses[0] if view is not None and view.addresses else "")
    return MachineStatus(name, cluster, role, seen, view is not None and view.ready)
