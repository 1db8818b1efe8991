"""What the answers of boards, nodes and the API mean, and that those who give none hold nobody up."""

from __future__ import annotations

import dataclasses
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from cli.observe_answers import Answers, BoardAnswer, NodeAnswer, ask, at_once
from cli.observe_scene import Scene, SeenFlash, look, scene
from providers.deadline import Deadline
from providers.errors import UnreachableError
from providers.kubernetes.client import NodeView
from providers.talos.client import EtcdMember, Stage
from providers.turingpi.answers import State, Status
from tests.cli.lab import VIP, lab

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def member(name: str, slot: int, *, learner: bool = False) -> EtcdMember:
    return EtcdMember(slot, name, (f"https://127.107.2.{slot}:2380",), (), learner)


def view(name: str, *, ready: bool = True, reason: str = "", unschedulable: bool = False) -> NodeView:
    return NodeView(name, "uid", ready, reason, "boot", "v1.36.1", (), unschedulable)


def seen(root: Path, answers: Answers, in_peace: tuple[str, ...] = ()) -> Scene:
    return scene(lab(root, control_planes=3, workers=1), answers, NOW, in_peace)


def whole() -> Answers:
    members = (member("node1", 1), member("", 2), member("node3", 3))
    up = NodeAnswer("running", Stage("running", True, ()), "v1.13.9", ("127.107.2.1", VIP), members)
    return Answers(
        boards={"board1": BoardAnswer("answering", {1: True, 2: True, 3: False}, "2.0.5")},
        nodes={
            "node1": up,
            "node2": dataclasses.replace(up, addresses=()),
            "node4": NodeAnswer("maintenance", Stage("maintenance", False, ("config: none",))),
        },
        version="v1.36.1",
        views={"node1": view("node1"), "node2": view("node2", ready=False, reason="no network", unschedulable=True)},
    )


def test_each_slot_has_its_power_and_its_node(tmp_path: Path) -> None:
    (board,) = seen(tmp_path, whole()).boards
    assert [(slot.number, slot.power) for slot in board.slots] == [(1, "on"), (2, "on"), (3, "off"), (4, "unknown")]
    assert [slot.node.name for slot in board.slots if slot.node] == ["node1", "node2", "node3", "node4"]
    assert (board.state, board.firmware) == ("answering", "2.0.5")


def test_who_holds_the_address_and_how_etcd_is(tmp_path: Path) -> None:
    found = seen(tmp_path, whole())
    assert (found.cluster.holder, found.cluster.members, found.cluster.healthy) == ("node1", 3, 2)
    assert [node.etcd for node in found.nodes] == ["healthy", "healthy", "silent", ""]


def test_what_nodes_and_the_api_say(tmp_path: Path) -> None:
    one, two, three, four = seen(tmp_path, whole()).nodes
    assert (one.talos, one.stage, one.version, one.ready, one.kubelet) == (
        "running",
        "running",
        "v1.13.9",
        True,
        "v1.36.1",
    )
    assert (two.ready, two.why, two.cordoned) == (False, "no network", True)
    assert (three.talos, three.stage, three.ready) == ("unreachable", "", False)
    assert (four.stage, four.waits) == ("maintenance", ("config: none",))


def test_a_learner_is_no_voice_yet(tmp_path: Path) -> None:
    answers = whole()
    nodes = {"node1": dataclasses.replace(answers.nodes["node1"], members=(member("node1", 1, learner=True),))}
    assert seen(tmp_path, dataclasses.replace(answers, nodes=nodes)).nodes[0].etcd == "learner"


def test_nothing_is_known_where_nobody_answers(tmp_path: Path) -> None:
    found = seen(tmp_path, Answers({}, {}))
    assert found.cluster.api == "unreachable"
    assert (found.cluster.members, found.cluster.healthy, found.cluster.holder) == (None, None, None)
    assert {node.ready for node in found.nodes} == {None}
    assert {slot.power for slot in found.boards[0].slots} == {"unreachable"}


def test_a_board_that_flashes_is_left_in_peace(tmp_path: Path) -> None:
    (board,) = seen(tmp_path, Answers({}, {}), ("board1",)).boards
    assert board.state == "flashing"
    assert {slot.power for slot in board.slots} == {"unknown"}
    assert ask(lab(tmp_path), ("board1",)).boards == {}


def test_a_flash_is_told_while_it_goes_on_or_when_it_failed(tmp_path: Path) -> None:
    def flash(status: Status) -> SeenFlash | None:
        return seen(tmp_path, Answers({"board1": BoardAnswer("answering", flash=status)}, {})).boards[0].flash

    going = flash(Status(State.TRANSFERRING, 1, 420, 1000))
    assert going == SeenFlash("Transferring", 420, 1000)
    assert going.percent == 42
    assert flash(Status(State.ERROR, text="cancelled by user")) == SeenFlash("Error", 0, 0, "cancelled by user")
    assert SeenFlash("Transferring", 1, 0).percent is None
    assert flash(Status(State.DONE, size=3)) is None
    assert flash(Status(State.READY)) is None


def test_a_lab_that_is_dead_holds_nobody_up(tmp_path: Path) -> None:
    began = time.monotonic()
    found = look(lab(tmp_path))
    assert time.monotonic() - began < 15
    assert found.cluster.api == "unreachable"
    assert [node.talos for node in found.nodes] == ["not serving", "not serving"]
    assert "geheim" not in repr(found)


def test_who_answers_too_late_or_not_at_all_is_left_out() -> None:
    late = threading.Event()

    def call(number: int) -> int:
        if number == 2:
            raise UnreachableError("away")
        return late.wait(10) if number == 3 else number

    began = time.monotonic()
    assert at_once(call, {"one": 1, "two": 2, "three": 3})(Deadline(0.1)) == {"one": 1}
    assert time.monotonic() - began < 5
    late.set()
