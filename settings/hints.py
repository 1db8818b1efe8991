"""Warnings: what is allowed and probably not meant."""

from collections.abc import Iterable, Iterator

from . import certificates, hosts_checks, pools_checks, support
from .checks import Check
from .cni import Cni, Role
from .draft import Draft
from .problems import Problem

_RESERVED_DOMAINS = ("kubernetes.io", "k8s.io")
_FREE_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")
_FREE_LABELS = (
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
)


def quorum(draft: Draft) -> Iterator[Problem]:
    """An even number of etcd members survives no more losses than one less."""
    count = sum(node.role is Role.CONTROLPLANE and not node.disabled for node in draft.nodes)
    if count and count % 2 == 0:
        survives = "no loss" if count == 2 else f"{(count - 1) // 2} lost"
        message = f"{count} control planes survive {survives}, as {count - 1} do"
        yield Problem(("nodes",), message, f"make it {count - 1} or {count + 1}")


def versions(draft: Draft) -> Iterator[Problem]:
    """Release candidates are for trying out."""
    for key, version in (("talos", draft.talos), ("kubernetes", draft.kubernetes)):
        if version is not None and support.is_prerelease(version):
            yield Problem(("cluster", key, "version"), f"{version} is a pre-release", "take the last release")


def owners_image(draft: Draft) -> Iterator[Problem]:
    """What a node is flashed with and what it is upgraded with are made of the same."""
    given = {key for key in ("image", "installer") if key in draft.single_image}
    if given == {"image"}:
        message = "is the owner's own, and upgrades would bring the factory's"
        yield Problem(("cluster", "talos", "image"), message, "write its installer under cluster.talos.installer")
    if given == {"installer"}:
        message = "is the owner's own, and a node is flashed with the factory's image"
        yield Problem(("cluster", "talos", "installer"), message, "write its disk image under cluster.talos.image")


def network(draft: Draft) -> Iterator[Problem]:
    """No CNI, no Ready nodes; and `.local` belongs to mDNS (RFC 6762)."""
    if draft.cni is Cni.NONE:
        message = f"{draft.cni.value}: nodes stay NotReady until a CNI is installed by hand"
        yield Problem(("cluster", "cni"), message, "take flannel")
    if draft.dns is not None and draft.dns.endswith(".local"):
        yield Problem(("cluster", "endpoint", "dns"), "ends in .local, which belongs to mDNS", "take .home.arpa")


def places(draft: Draft) -> Iterator[Problem]:
    """Boards without nodes, and pods without a place."""
    used = {node.board for node in draft.nodes}
    for name in draft.boards:
        if name not in used:
            yield Problem(("boards", name), "has no node", "remove it, or put a node on it")
    enabled = [node for node in draft.nodes if not node.disabled]
    if not draft.schedules and enabled and all(node.role is Role.CONTROLPLANE for node in enabled):
        message = "is false and there is no worker, so no pod has a place"
        yield Problem(("cluster", "schedule_on_control_planes"), message, "make it true or add a worker")


def labels(draft: Draft) -> Iterator[Problem]:
    """The API server's NodeRestriction keeps a worker from giving itself labels of Kubernetes' own domains."""
    for node in draft.nodes:
        for key in node.labels if node.role is Role.WORKER else ():
            if _restricted(key):
                where = (*node.where, "labels", key)
                yield Problem(where, "is refused by the API server on a worker", "use a domain of your own")


def _restricted(key: str) -> bool:
    domain = key.rpartition("/")[0]
    own = any(domain == d or domain.endswith("." + d) for d in _RESERVED_DOMAINS)
    free = key in _FREE_LABELS or any(domain == d or domain.endswith("." + d) for d in _FREE_PREFIXES)
    return own and not free


def forwarded(draft: Draft) -> Iterator[Problem]:
    """A router forwards the torrent port to an address, and any of the pools may be another one tomorrow."""
    for name, application in draft.platform.known.applications.items():
        if application.torrent is not None and application.enabled and name not in draft.platform.addresses:
            where = ("platform", "applications", name)
            message = f"has no fixed address to forward port {application.torrent.port} to"
            yield Problem(where, message, f"write one under platform.addresses.{name}")


def metrics(draft: Draft) -> Iterator[Problem]:
    """Prometheus' data does not survive NFS, so without Longhorn it has no volume."""
    if "monitoring" in draft.platform.on and "longhorn" not in draft.platform.on:
        message = "loses its metrics with its pod, as the part longhorn is off"
        yield Problem(("platform", "monitoring"), message, "turn longhorn on, if they matter")


HINTS: tuple[Check, ...] = (
    versions,
    owners_image,
    network,
    places,
    quorum,
    labels,
    forwarded,
    metrics,
    certificates.dates,
    pools_checks.open_doors,
    hosts_checks.even,
)
"""Every source of warnings."""


def hints(draft: Draft) -> Iterable[Problem]:
    """All warnings for a draft."""
    return (problem for hint in HINTS for problem in hint(draft))
