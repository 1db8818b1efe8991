"""Asks the lab itself, all of it at once: boards, nodes, etcd, the API and its objects. It changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from cli.observe import ANSWER_S, Lab, endpoint, opened
from drift import helm, objects
from drift.applied import Applied, Machine, Object, Release
from drift.helm import Record
from drift.objects import Answers, Silence
from providers.deployment import is_open
from providers.dynamic import lazily
from providers.engine import Reporter
from providers.errors import HomelabError, UnreachableError
from providers.kubernetes.client import Kube, NodeView
from providers.longhorn import scene
from providers.longhorn.scene import Scene
from providers.talos import leave, machine
from providers.talos.client import Mode, probe
from providers.talos.leave import Etcd
from providers.turingpi.client import Bmc
from settings import Board

if TYPE_CHECKING:
    from providers.k3s import drift as k3s
else:  # no other verb needs what it imports
    k3s = lazily("providers.k3s.drift")

NO_TALOSCONFIG = "there is no talosconfig here; `homelab up` writes it"
NO_KUBECONFIG = "there is no kubeconfig here; `homelab up` writes it"
Releases = tuple[tuple[Release, Record | Silence | None], ...]
T = TypeVar("T")


@dataclass(frozen=True)
class Cluster:
    """What the Kubernetes API says."""

    nodes: tuple[NodeView, ...]
    longhorn: Scene | Silence | None
    objects: Answers = ()
    releases: Releases = ()


@dataclass(frozen=True)
class Seen:
    """What every part of the lab answered.

    Attributes:
        powers: board -> slot -> whether it is on.
        modes: node -> what answers at its address.
        configs: node -> how its live config differs, in words; "" when it does not.
        hosts: host of a k3s cluster -> how it differs, in words; "" when it does not.
    """

    powers: Mapping[str, Mapping[int, bool] | Silence]
    modes: Mapping[str, Mode | Silence]
    configs: Mapping[str, str | Silence]
    etcd: Etcd | Silence
    cluster: Cluster | Silence
    hosts: Mapping[str, str | Silence] = field(default_factory=dict)

    @property
    def anything(self) -> bool:
        """Whether anything of the lab answered at all: else this machine is not in its network."""
        absent = (Mode.SILENT, Mode.REFUSED)
        answered = any(not isinstance(mode, Silence) and mode not in absent for mode in self.modes.values())
        boards = any(not isinstance(power, Silence) for power in self.powers.values())
        hosts = any(not isinstance(words, Silence) for words in self.hosts.values())
        return answered or boards or hosts or not isinstance(self.cluster, Silence)


def look(lab: Lab, applied: Applied | None) -> Seen:
    """Ask everything. What gives no answer is a `Silence`; nothing is raised for it."""
    known = applied or Applied()
    boards, nodes = lab.settings.boards, lab.settings.enabled_nodes
    with ThreadPoolExecutor(len(boards) + 2 * len(nodes) + len(known.hosts) + 2) as threads:
        powers = {name: threads.submit(_answer, partial(_power, board)) for name, board in boards.items()}
        modes = {n.name: threads.submit(_answer, partial(_mode, lab, str(n.address))) for n in nodes}
        found = [known.machines[node.name] for node in nodes if node.name in known.machines]
        configs = {m.node: threads.submit(_answer, partial(config_drift, m)) for m in found}
        hosts = {
            name: threads.submit(_answer, partial(host_drift, props))
            for name, props in known.hosts.items()
            if name in lab.settings.hosts and not lab.settings.hosts[name].disabled
        }
        etcd = threads.submit(_answer, partial(_etcd, lab))
        cluster = threads.submit(_answer, partial(_cluster, lab, known))
        return Seen(_all(powers), _all(modes), _all(configs), etcd.result(), cluster.result(), _all(hosts))


def _answer(ask: Callable[[], T]) -> T | Silence:
    try:
        return ask()
    except HomelabError as error:
        return Silence(str(error))


def _all(asked: Mapping[str, Future[T]]) -> dict[str, T]:
    return {name: future.result() for name, future in asked.items()}


def _power(board: Board) -> Mapping[int, bool]:
    if not opened(board):
        raise UnreachableError("its password can't be opened here")
    with Bmc.connect(endpoint(board), ANSWER_S) as bmc:
        return bmc.power()


def _mode(lab: Lab, address: str) -> Mode:
    if lab.certificate is None:
        raise UnreachableError(NO_TALOSCONFIG)
    return probe(address, lab.certificate, timeout_s=ANSWER_S)


class _Heard(Reporter):
    """Keeps what a provider would have warned of."""

    def __init__(self) -> None:
        super().__init__(urn="")
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """A look that failed is told as a warning there."""
        self.warnings.append(text)


def config_drift(known: Machine) -> str | Silence:
    """How a node's live config differs from the one that was applied, in words."""
    if not is_open(known.props):
        return Silence("the secrets of its config can't be opened here")
    heard = _Heard()
    words = machine.drift(dict(known.props), heard)
    return Silence("; ".join(heard.warnings)) if heard.warnings and not words else words


def host_drift(props: Mapping[str, Any]) -> str | Silence:
    """How a host of a k3s cluster differs from what was applied, in words."""
    if not is_open(props):
        return Silence("the secrets of its state can't be opened here")
    return str(k3s.on(dict(props)))


def _etcd(lab: Lab) -> Etcd:
    if lab.certificate is None:
        raise UnreachableError(NO_TALOSCONFIG)
    found = leave.observe(lab.control_planes, lab.certificate)
    if found is None:
        raise UnreachableError("no control plane says who is in etcd")
    return found


def _cluster(lab: Lab, applied: Applied) -> Cluster:
    with open_api(lab) as kube:
        records = tuple((release, _answer(partial(helm.newest, kube, release))) for release in applied.releases)
        wanted = [*applied.objects, *(item for _, record in records for item in _made_by(record))]
        return Cluster(kube.nodes(), _answer(partial(scene.observe, kube)), objects.ask(kube, wanted), records)


def _made_by(record: Record | Silence | None) -> tuple[Object, ...]:
    return record.objects if isinstance(record, Record) else ()


def open_api(lab: Lab) -> Kube:
    """The API through the VIP, else through whichever control plane answers; to be closed.

    Raises:
        UnreachableError: none does.
    """
    if lab.kubeconfig is None:
        raise UnreachableError(NO_KUBECONFIG)
    port, said = lab.settings.cluster.endpoint.port, "no control plane is declared"
    for server in (None, *(f"https://{address}:{port}" for address in lab.control_planes.values())):
        kube = Kube(lab.kubeconfig, server=server, timeout_s=ANSWER_S)
        try:
            kube.version()
        except HomelabError as error:
            kube.close()
            said = str(error)
        else:
            return kube
    raise UnreachableError(said)
