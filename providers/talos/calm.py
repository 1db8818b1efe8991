"""Whether a cluster can spare a node now, and whether it is whole again afterwards: etcd, Kubernetes, Longhorn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from providers import pace
from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import DeadlineError, HomelabError, RefusedError, UnreachableError, UpgradeError
from providers.kubernetes.client import Kube, NodeView
from providers.longhorn import scene as longhorn
from providers.talos import leave
from providers.talos.client import Talos
from providers.talos.leave import Etcd
from providers.talos.pki import ClientCert

BEFORE_S = 300.0
AFTER_S = 900.0
REBUILD_S = 7200.0  # a replica of 100 GB takes a quarter of an hour over gigabit Ethernet
OPEN_S = 60.0  # Talos itself opens a node again that it had closed
API_S = 120.0
MOST_NAMED = 3
_BY_TALOS = "talos.dev/cordoned"


@dataclass(frozen=True)
class Lab:
    """The cluster around a node.

    Attributes:
        node: whom it is about.
        role: `controlplane` or `worker`.
        control_planes: name to address.
        cert: for the Talos API.
        most_away: how many workers may be away at once, this one included.
    """

    node: str
    role: str
    control_planes: Mapping[str, str]
    cert: ClientCert
    most_away: int = 1

    @property
    def leads(self) -> bool:
        """Whether the node is a control plane."""
        return self.role == "controlplane"


def etcd_lack(seen: Etcd | None, control_planes: Mapping[str, str]) -> str:
    """What etcd lacks to spare a member, or to be whole again; "" when it lacks nothing."""
    if seen is None:
        return "no control plane says who is in etcd"
    absent = [name for name, address in control_planes.items() if seen.member(name, address) is None]
    if absent:
        return f"{', '.join(sorted(absent))} is not in etcd"
    learners = sorted(member.hostname for member in seen.members if member.learner)
    if learners:
        return f"{', '.join(learners)} does not vote in etcd yet"
    ill = sorted(member.hostname for member in seen.members if member.hostname not in seen.healthy)
    return f"etcd on {', '.join(ill)} is not healthy" if ill else ""


def too_few(seen: Etcd | None) -> str:
    """Why a control plane must not be upgraded whatever is waited for; Talos refuses it as well."""
    if seen is not None and len(seen.members) == 2:
        return "etcd has two members, and neither can be spared: add a third control plane, or take one out first"
    return ""


def away(nodes: Collection[NodeView], workers: Collection[str], lab: Lab, busy: Collection[str]) -> str:
    """Which workers are away beside those that this run works on; "" when one more may go."""
    gone = sorted(view.name for view in nodes if not view.ready and view.name in workers and view.name not in busy)
    others = [name for name in gone if name != lab.node]
    if len(others) + len({*busy, lab.node}) <= lab.most_away:
        return ""
    many = f"cluster.talos.max_unavailable is {lab.most_away}"
    return f"{', '.join(others)} is not Ready, and {many}" if others else ""


def unsettled(seen: longhorn.Scene | None) -> str:
    """Which volumes have not all of their replicas; "" when each has, or there is no Longhorn."""
    found = sorted(str(volume) for volume in seen.volumes.values() if not volume.settled) if seen is not None else []
    if not found:
        return ""
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return f"Longhorn rebuilds {', '.join(found[:MOST_NAMED])}{more}"


class Calm:
    """Looks at a cluster through whichever control plane answers; the kubeconfig comes from Talos."""

    def __init__(self, lab: Lab, report: Reporter) -> None:
        self._lab = lab
        self._report = report
        self._kubeconfig = ""

    def before(self, busy: Callable[[], Collection[str]] = lambda: ()) -> None:
        """Wait until the node can be spared.

        Args:
            busy: names of workers that this run works on at the moment.

        Raises:
            RefusedError: it can't be; nothing was done.
        """
        lab = self._lab
        problem = too_few(self._etcd()) if lab.leads else ""
        if problem:
            raise RefusedError(f"{lab.node}: not upgraded: {problem}")
        try:
            self._until(lambda: self._lack_before(busy()), BEFORE_S)
            self._until(self._volumes, REBUILD_S)
        except DeadlineError as error:
            raise RefusedError(f"{lab.node}: not upgraded: {error}; `homelab status` shows the lab") from None

    def after(self, boot: str) -> None:
        """Wait until the node takes part again, and etcd and the volumes are whole.

        Args:
            boot: the kernel's id of the boot that it must be Ready in.

        Raises:
            UpgradeError: something is missing to the end.
        """
        try:
            self._until(lambda: self._lack_after(boot), AFTER_S)
            self._open()
            self._until(self._volumes, REBUILD_S)
        except (DeadlineError, UnreachableError) as error:
            raise UpgradeError(f"{self._lab.node}: is upgraded, but the cluster is not whole: {error}") from error

    @contextmanager
    def kube(self) -> Iterator[Kube]:
        """The Kubernetes API, over a control plane that can serve.

        Raises:
            UnreachableError: none can.
        """
        with self._kube() as found:
            yield found

    # Looking

    def _etcd(self) -> Etcd | None:
        return leave.observe(self._lab.control_planes, self._lab.cert)

    def _lack_before(self, busy: Collection[str]) -> str:
        lack = etcd_lack(self._etcd(), self._lab.control_planes)
        if lack or self._lab.leads:
            return lack
        with self._kube() as kube:
            nodes = kube.nodes()
        workers = [view.name for view in nodes if view.name not in self._lab.control_planes]
        return away(nodes, workers, self._lab, busy)

    def _lack_after(self, boot: str) -> str:
        lack = etcd_lack(self._etcd(), self._lab.control_planes)
        if lack:
            return lack
        with self._kube() as kube:
            view = kube.node(self._lab.node)
        if view is None:
            return "the cluster does not know the node"
        return "" if view.ready and view.boot_id == boot else f"its Node is not Ready ({view.reason})"

    def _volumes(self) -> str:
        with self._kube() as kube:
            return unsettled(longhorn.observe(kube))

    def _open(self) -> None:
        """Have pods come back to a node that Talos had closed for the upgrade; what its owner closed stays closed."""
        try:
            self._until(self._closed, OPEN_S)
        except DeadlineError:
            with self._kube() as kube:
                kube.cordon(self._lab.node, Deadline(pace.limit(API_S)), unschedulable=False)

    def _closed(self) -> str:
        with self._kube() as kube:
            found = kube.look(f"/api/v1/nodes/{self._lab.node}") or {}
        by_talos = _BY_TALOS in (found.get("metadata", {}).get("annotations") or {})
        return "it is cordoned" if by_talos and found.get("spec", {}).get("unschedulable") else ""

    def _until(self, lack: Callable[[], str], seconds: float) -> None:
        """Poll until nothing is lacking; an API that is away for a moment counts as that."""
        last = ""

        def settled() -> bool | None:
            nonlocal last
            last = self._tolerant(lack)
            if last:
                self._report.progress(f"waiting: {last}")
            return None if last else True

        deadline = Deadline(pace.limit(seconds))
        try:
            deadline.poll(settled, self._lab.node, pace.interval(3))
        except DeadlineError:
            raise DeadlineError(f"{last}, for {deadline.seconds:.0f} s") from None

    def _tolerant(self, lack: Callable[[], str]) -> str:
        try:
            return lack()
        except UnreachableError as error:
            return str(error)

    @contextmanager
    def _kube(self) -> Iterator[Kube]:
        last: HomelabError | None = None
        for address in self._addresses():
            try:
                kube = Kube(self._config(address), server=f"https://{address}:6443")
            except HomelabError as error:
                last = error
                continue
            with kube:
                if kube.healthy():
                    yield kube
                    return
        raise UnreachableError(f"no control plane serves the Kubernetes API{f' ({last})' if last else ''}")

    def _addresses(self) -> list[str]:
        """The others before the node itself: it may be on its way down."""
        planes = self._lab.control_planes
        return [planes[name] for name in sorted(planes, key=lambda name: (name == self._lab.node, name))]

    def _config(self, address: str) -> str:
        if not self._kubeconfig:
            with Talos.secure(address, self._lab.cert) as talos:
                self._kubeconfig = talos.kubeconfig(timeout_s=pace.limit(10))
        return self._kubeconfig
