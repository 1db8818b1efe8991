"""What boards, nodes and the API answer when all of them are asked at once, more closely than for `status`.

On threads that hold nobody up: neither what gives no answer, nor the end of the command.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from cli.observe import ANSWER_S, MODES, UNKNOWN, UNREACHABLE, Lab, endpoint, kubernetes, opened
from providers.deadline import Deadline
from providers.errors import AuthError, HomelabError
from providers.kubernetes.client import NodeView
from providers.talos.client import EtcdMember, Mode, Stage, Talos, probe
from providers.talos.pki import ClientCert
from providers.turingpi.answers import Status
from providers.turingpi.client import Bmc
from settings import Board, Node

LOOK_S = 5 * ANSWER_S
ANSWERING = "answering"
FIRMWARE = ("version", "build_version", "firmware")  # the BMC's names for it, by its own age
K = TypeVar("K")
T = TypeVar("T")
D = TypeVar("D")


@dataclass(frozen=True)
class BoardAnswer:
    """A board's. `state` is "answering", "unreachable", "refused" (its credentials) or "unknown" (no secrets here)."""

    state: str
    power: Mapping[int, bool] = field(default_factory=dict)
    firmware: str = ""
    flash: Status | None = None


@dataclass(frozen=True)
class NodeAnswer:
    """A node's Talos'. `talos` is a word of `homelab status`; what it did not tell is None or empty."""

    talos: str
    stage: Stage | None = None
    version: str = ""
    addresses: tuple[str, ...] = ()
    members: tuple[EtcdMember, ...] | None = None


@dataclass(frozen=True)
class Answers:
    """Everybody's, by name. Who gave none is not there."""

    boards: Mapping[str, BoardAnswer]
    nodes: Mapping[str, NodeAnswer]
    version: str | None = None
    views: Mapping[str, NodeView] | None = None


def ask(lab: Lab, in_peace: Collection[str] = (), limit_s: float = LOOK_S) -> Answers:
    """Ask everything that there is. Raises nothing for what does not answer.

    Args:
        lab: what is asked, and the keys to it.
        in_peace: boards that are not asked, by name: a BMC answers nobody while it takes an image (facts A3).
        limit_s: seconds after which what has not answered is left out.
    """
    deadline, certificate = Deadline(limit_s), lab.certificate
    boards = at_once(_board, {name: it for name, it in lab.settings.boards.items() if name not in in_peace})
    nodes = at_once(lambda node: _node(node, certificate), {node.name: node for node in lab.settings.enabled_nodes})
    api = at_once(kubernetes, {"api": lab})
    version, views = api(deadline).get("api", (None, None))
    return Answers(boards(deadline), nodes(deadline), version, views)


def at_once(call: Callable[[D], T], of: Mapping[K, D]) -> Callable[[Deadline], dict[K, T]]:
    """Begin the call for each; what comes back waits for them, and gives what was answered until then.

    The threads are daemons: an executor's would keep the process alive until the last of them had its time-out.
    """
    found: dict[K, T] = {}

    def one(key: K, value: D) -> None:
        with suppress(HomelabError):
            found[key] = call(value)

    threads = [threading.Thread(target=one, args=item, daemon=True) for item in of.items()]
    for thread in threads:
        thread.start()

    def wait(deadline: Deadline) -> dict[K, T]:
        for thread in threads:
            thread.join(deadline.remaining)
        return dict(found)

    return wait


def _board(board: Board) -> BoardAnswer:
    if not opened(board):
        return BoardAnswer(UNKNOWN)
    try:
        with Bmc.connect(endpoint(board), ANSWER_S) as bmc:
            # The power last: it is what the others are worthless without.
            flash, info = _told(bmc.flash_status, None), _told(bmc.info, {})
            firmware = next((info[key] for key in FIRMWARE if info.get(key)), "")
            return BoardAnswer(ANSWERING, bmc.power(), firmware, flash)
    except AuthError:
        return BoardAnswer("refused")
    except HomelabError:
        return BoardAnswer(UNREACHABLE)


def _node(node: Node, certificate: ClientCert | None) -> NodeAnswer:
    address = str(node.address)
    found = probe(address, certificate, timeout_s=ANSWER_S)
    if found is Mode.MAINTENANCE:
        with Talos.insecure(address) as talos:
            return NodeAnswer(MODES[found], _stage(talos), _version(talos))
    if found is Mode.OURS and certificate is not None:
        with Talos.secure(address, certificate) as talos:
            held = _told(lambda: talos.addresses(timeout_s=ANSWER_S), ())
            members = _told(lambda: _members(talos), None) if node.is_control_plane else None
            return NodeAnswer(MODES[found], _stage(talos), _version(talos), held, members)
    return NodeAnswer("configured" if found is Mode.FOREIGN and certificate is None else MODES[found])


def _stage(talos: Talos) -> Stage | None:
    return _told(lambda: talos.machine_stage(timeout_s=ANSWER_S), None)


def _version(talos: Talos) -> str:
    return _told(lambda: talos.version(timeout_s=ANSWER_S).tag, "")


def _members(talos: Talos) -> tuple[EtcdMember, ...]:
    """What it lists, if its own etcd has a say."""
    members = talos.etcd_members(timeout_s=ANSWER_S)
    talos.etcd_status(timeout_s=ANSWER_S)
    return members


def _told(call: Callable[[], T], otherwise: D) -> T | D:
    """One question by itself: a node that boots refuses some of them, and old firmware doesn't know all."""
    try:
        return call()
    except HomelabError:
        return otherwise
