"""The lab at one moment, as `watch` and `report` draw it: boards, their slots, what is in them, and the cluster."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cli.observe import UNKNOWN, UNREACHABLE, Lab
from cli.observe_answers import ANSWERING, Answers, BoardAnswer, NodeAnswer, ask
from providers.talos.client import EtcdMember
from providers.turingpi.answers import SLOTS, State, Status
from settings import Board, Node

FLASHING = "flashing"


@dataclass(frozen=True)
class SeenNode:
    """A node, as far as anybody tells of it.

    Attributes:
        talos: as in `homelab status`; "disabled" of a node that the settings keep out.
        stage: Talos' own word ("booting", "running", ...), or "" when it did not say.
        waits: what Talos says that it waits for.
        version: of Talos, or "".
        ready: Kubernetes' word; None when nobody could be asked.
        why: Kubernetes' reason for not being Ready, or "".
        cordoned: whether no new pods may come.
        kubelet: its version, or "".
        etcd: "healthy", "learner", "silent" (a member that gives no answer), or "" of one that is no member.
        vip: whether it holds the cluster's virtual address.
    """

    name: str
    role: str
    address: str
    module: str
    talos: str
    stage: str = ""
    waits: tuple[str, ...] = ()
    version: str = ""
    ready: bool | None = None
    why: str = ""
    cordoned: bool = False
    kubelet: str = ""
    etcd: str = ""
    vip: bool = False


@dataclass(frozen=True)
class SeenSlot:
    """A slot of a board. `power` is "on", "off" or what is wrong with the board; `node` None where none is declared."""

    number: int
    power: str
    node: SeenNode | None = None


@dataclass(frozen=True)
class SeenFlash:
    """A board's one transfer, in bytes: "Transferring", or "Error" with its text. A board doesn't say whose it is."""

    state: str
    written: int
    size: int
    text: str = ""

    @property
    def percent(self) -> int | None:
        """The share that is written; None when the size is not known."""
        return min(100, self.written * 100 // self.size) if self.size else None


@dataclass(frozen=True)
class SeenBoard:
    """A board. `state` is as in `BoardAnswer`, or "flashing" of one that was left in peace."""

    name: str
    address: str
    state: str
    slots: tuple[SeenSlot, ...]
    firmware: str = ""
    flash: SeenFlash | None = None


@dataclass(frozen=True)
class SeenCluster:
    """The cluster. `api` is "answering" or "unreachable"; the numbers are None when no control plane told them.

    Attributes:
        holder: the node with the virtual address `vip`; None when nobody says so.
        kubernetes: the API's version.
        members: how many etcd has, of which `healthy` answer.
    """

    name: str
    endpoint: str
    vip: str
    holder: str | None
    api: str
    kubernetes: str | None
    members: int | None
    healthy: int | None


@dataclass(frozen=True)
class Scene:
    """The lab at one moment. `locked` is why the stack's secrets could not be opened, or ""."""

    at: datetime
    stack: str
    simulated: bool
    cluster: SeenCluster
    boards: tuple[SeenBoard, ...]
    locked: str = ""

    @property
    def nodes(self) -> tuple[SeenNode, ...]:
        """The nodes in the order of boards and slots."""
        return tuple(slot.node for board in self.boards for slot in board.slots if slot.node is not None)


def look(lab: Lab, in_peace: Collection[str] = ()) -> Scene:
    """Ask everybody, but boards of these names; see `cli.observe_answers.ask`."""
    return scene(lab, ask(lab, in_peace), datetime.now(UTC), in_peace)


def scene(lab: Lab, answers: Answers, at: datetime, in_peace: Collection[str] = ()) -> Scene:
    """What the answers mean. Boards `in_peace` were not asked, as they take an image."""
    lists = [answer.members for answer in answers.nodes.values() if answer.members]
    members = max(lists, key=len, default=())
    nodes = {node.name: _node(node, lab, answers, members) for node in lab.settings.nodes.values()}
    cluster = SeenCluster(
        name=lab.settings.cluster.name,
        endpoint=lab.settings.cluster.endpoint.url,
        vip=lab.vip,
        holder=next((node.name for node in nodes.values() if node.vip), None),
        api=ANSWERING if answers.version else UNREACHABLE,
        kubernetes=answers.version,
        members=len(members) or None,
        healthy=len(lists) or None,
    )
    told = {name: BoardAnswer(FLASHING) for name in in_peace} | dict(answers.boards)
    boards = tuple(
        _board(board, told.get(name, BoardAnswer(UNREACHABLE)), _slots(lab, name, nodes))
        for name, board in lab.settings.boards.items()
    )
    return Scene(at, lab.stack.name, lab.stack.is_twin, cluster, boards, lab.locked)


def _slots(lab: Lab, board: str, nodes: Mapping[str, SeenNode]) -> dict[int, SeenNode]:
    return {node.slot: nodes[node.name] for node in lab.settings.nodes.values() if node.board == board}


def _board(board: Board, told: BoardAnswer, nodes: Mapping[int, SeenNode]) -> SeenBoard:
    slots = tuple(SeenSlot(slot, _power(told, slot), nodes.get(slot)) for slot in SLOTS)
    return SeenBoard(board.name, board.address, told.state, slots, told.firmware, _flash(told.flash))


def _power(told: BoardAnswer, slot: int) -> str:
    if told.state != ANSWERING:
        return UNKNOWN if told.state == FLASHING else told.state
    return {True: "on", False: "off", None: UNKNOWN}[told.power.get(slot)]


def _flash(told: Status | None) -> SeenFlash | None:
    """A flash that goes on, or failed; that of one that ended well is told for weeks, and means nothing any more."""
    if told is None or told.state in (State.READY, State.DONE):
        return None
    return SeenFlash(told.state.value, told.written, told.size, told.text)


def _node(node: Node, lab: Lab, answers: Answers, members: Sequence[EtcdMember]) -> SeenNode:
    told = answers.nodes.get(node.name, NodeAnswer("disabled" if node.disabled else UNREACHABLE))
    view = answers.views.get(node.name) if answers.views is not None else None
    return SeenNode(
        name=node.name,
        role=str(node.role),
        address=str(node.address),
        module=str(node.module),
        talos=told.talos,
        stage=told.stage.name if told.stage else "",
        waits=told.stage.unmet if told.stage else (),
        version=told.version,
        ready=None if answers.views is None or node.disabled else bool(view and view.ready),
        why=view.reason if view and not view.ready else "",
        cordoned=bool(view and view.unschedulable),
        kubelet=view.kubelet if view else "",
        etcd=_etcd(node, members, answers=told.members is not None),
        vip=lab.vip in told.addresses,
    )


def _etcd(node: Node, members: Sequence[EtcdMember], *, answers: bool) -> str:
    """By its name or its address: a member that has just joined has no name yet."""
    for member in members:
        if member.hostname == node.name or any(f"//{node.address}:" in url for url in member.peer_urls):
            return "learner" if member.learner else ("healthy" if answers else "silent")
    return ""
