"""What the lab is doing right now: everything is asked at once, and what gives no answer holds nobody up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from cli import credentials, observe_clusters
from cli.engine import Engine
from cli.observe_clusters import ClusterStatus, MachineStatus
from cli.stacks import Stack
from providers.errors import AuthError, HomelabError
from providers.kubernetes.client import Kube, NodeView
from providers.talos import leave
from providers.talos.client import Mode, Talos, probe
from providers.talos.pki import ClientCert
from providers.turingpi.client import Bmc, Endpoint
from settings import Board, Node, Settings, load
from settings.secrets import PLACEHOLDER

ANSWER_S = 4.0
UNREACHABLE = "unreachable"
UNKNOWN = "unknown"
MODES = {
    Mode.SILENT: UNREACHABLE,
    Mode.REFUSED: "not serving",
    Mode.MAINTENANCE: "maintenance",
    Mode.OURS: "running",
    Mode.FOREIGN: "foreign",
}
T = TypeVar("T")
D = TypeVar("D")


@dataclass(frozen=True)
class Lab:
    """One stack's settings and the keys to it.

    Attributes:
        settings: validated; BMC passwords are in them when the stack's secrets could be opened.
        certificate: for Talos; None before the first `up`.
        kubeconfig: None before the first `up`.
        locked: why the secrets could not be opened, or "".
    """

    stack: Stack
    settings: Settings
    certificate: ClientCert | None = field(repr=False)
    kubeconfig: str | None = field(repr=False)
    locked: str = ""

    @property
    def vip(self) -> str:
        """The cluster's virtual address."""
        return str(self.settings.cluster.endpoint.vip)

    @property
    def control_planes(self) -> dict[str, str]:
        """Name to address of those that take part."""
        return {node.name: str(node.address) for node in self.settings.control_planes}


def open_lab(stack: Stack) -> Lab:
    """Read a stack's settings and credentials.

    Raises:
        HomelabError: the settings are wrong; a missing passphrase is no error, it only leaves boards unanswered.
    """
    try:
        decrypted, locked = Engine(stack).config(), ""
    except HomelabError as exc:
        decrypted, locked = None, str(exc)
    settings = load(stack.settings_file, decrypted)
    return Lab(stack, settings, credentials.talos_certificate(stack), credentials.kubeconfig(stack), locked)


@dataclass(frozen=True)
class NodeStatus:
    """One row of `homelab status`.

    Attributes:
        power: "on", "off", "unreachable" (the board), "refused" (its credentials) or "unknown" (no secrets here).
        talos: "running", "maintenance", "foreign", "configured" (no talosconfig here to tell), "not serving" or
            "unreachable".
        ready: Kubernetes' word; None when nobody could be asked.
    """

    name: str
    role: str
    address: str
    power: str
    talos: str
    ready: bool | None


@dataclass(frozen=True)
class Status:
    """What `homelab status --json` prints.

    Attributes:
        cluster: that of Talos; `nodes` are its nodes on boards.
        clusters: those beside it, and tenants.
        machines: hosts, and machines of pools.
    """

    cluster: dict[str, Any]
    nodes: list[NodeStatus]
    vip: dict[str, str | None]
    clusters: list[ClusterStatus]
    machines: list[MachineStatus]

    def as_json(self) -> dict[str, Any]:
        """Plain values, in the documented shape; of further clusters and machines only where the lab has some."""
        found = asdict(self)
        return {key: value for key, value in found.items() if value or key not in ("clusters", "machines")}


def observe(lab: Lab) -> Status:
    """Ask boards, nodes, etcd and the APIs, all at once. Raises nothing for what does not answer."""
    nodes, certificate = lab.settings.nodes, lab.certificate
    threads = ThreadPoolExecutor(2 * len(nodes) + len(lab.settings.boards) + 5)
    try:
        powers = {name: threads.submit(power, board) for name, board in lab.settings.boards.items()}
        modes = {n: threads.submit(mode, str(node.address), certificate) for n, node in nodes.items()}
        holders = {n: threads.submit(holds, a, lab.vip, certificate) for n, a in lab.control_planes.items()}
        etcd = threads.submit(_etcd, lab)
        answer = threads.submit(kubernetes, lab)
        further = threads.submit(observe_clusters.observe, lab.stack, lab.settings)
        version, ready = _result(answer, (None, None))
        return Status(
            cluster=_cluster(lab, version, _result(etcd, None)),
            nodes=[_row(node, powers, modes, ready) for node in nodes.values()],
            vip={"address": lab.vip, "holder": next((n for n, held in holders.items() if _result(held, False)), None)},
            clusters=further.result()[0],
            machines=further.result()[1],
        )
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def power(board: Board) -> dict[int, bool] | str:
    """The four slots' power, or in a word why it is not known."""
    if not opened(board):
        return UNKNOWN
    try:
        with Bmc.connect(endpoint(board), ANSWER_S) as bmc:
            return dict(bmc.power())
    except AuthError:
        return "refused"
    except HomelabError:
        return UNREACHABLE


def endpoint(board: Board) -> Endpoint:
    """How a board's BMC is reached."""
    return Endpoint(board.url, board.username, board.plain_password, board.fingerprint)


def opened(board: Board) -> bool:
    """Whether the board's password could be read; without the stack's passphrase a placeholder stands for it."""
    return board.password is not None and board.plain_password != PLACEHOLDER


def mode(address: str, certificate: ClientCert | None) -> str:
    """What answers at a node's address."""
    found = probe(address, certificate, timeout_s=ANSWER_S)
    if found is Mode.FOREIGN and certificate is None:
        return "configured"  # by whom can't be told without a credential
    return MODES[found]


def holds(address: str, vip: str, certificate: ClientCert | None) -> bool:
    """Whether a node has the VIP on one of its links."""
    if certificate is None:
        return False
    with Talos.secure(address, certificate) as talos:
        return vip in {str(found).split("/")[0] for found in talos.addresses(timeout_s=ANSWER_S)}


def _etcd(lab: Lab) -> leave.Etcd | None:
    return leave.observe(lab.control_planes, lab.certificate) if lab.certificate else None


def kubernetes(lab: Lab) -> tuple[str, dict[str, NodeView]]:
    """The API's version and nodes. Raises as `api` does."""
    return api(lab, lambda kube: (kube.version(), {view.name: view for view in kube.nodes()}))


def api(lab: Lab, ask: Callable[[Kube], T]) -> T:
    """What the Kubernetes API answers, through the VIP, else through whichever control plane answers.

    Raises:
        HomelabError: there is no kubeconfig yet, or nobody answers.
    """
    if lab.kubeconfig is None:
        raise HomelabError("no kubeconfig yet")
    port = lab.settings.cluster.endpoint.port
    last: HomelabError | None = None
    for server in (None, *(f"https://{address}:{port}" for address in lab.control_planes.values())):
        try:
            with Kube(lab.kubeconfig, server=server, timeout_s=ANSWER_S) as kube:
                return ask(kube)
        except HomelabError as exc:
            last = exc
    raise last or HomelabError("no control plane is declared")


def _cluster(lab: Lab, version: str | None, etcd: leave.Etcd | None) -> dict[str, Any]:
    cluster = lab.settings.cluster
    return {
        "name": cluster.name,
        "stack": lab.stack.name,
        "endpoint": cluster.endpoint.url,
        "api": "answering" if version else UNREACHABLE,
        "kubernetes": version,
        "etcd": {"members": len(etcd.members), "healthy": len(etcd.healthy)} if etcd else None,
    }


def _row(
    node: Node,
    powers: Mapping[str, Future[dict[int, bool] | str]],
    modes: Mapping[str, Future[str]],
    ready: Mapping[str, NodeView] | None,
) -> NodeStatus:
    seen = _result(powers[node.board], UNREACHABLE)
    view = ready.get(node.name) if ready is not None else None
    return NodeStatus(
        name=node.name,
        role=str(node.role),
        address=str(node.address),
        power=seen if isinstance(seen, str) else ("on" if seen.get(node.slot) else "off"),
        talos=_result(modes[node.name], UNREACHABLE),
        ready=None if ready is None else bool(view and view.ready),
    )


def _result(future: Future[T], otherwise: D) -> T | D:
    try:
        return future.result(timeout=5 * ANSWER_S)
    except (HomelabError, TimeoutError):
        return otherwise
