"""One node's upgrade, with a node that plays each way in which it can go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import DeadlineError, UnreachableError, UpgradeError
from providers.talos.client import TalosError
from providers.talos.upgrade import Node, Running, Target, bring

OLD = Running("v1.12.11", "aaaa", "boot-1", "running")
TARGET = Target("v1.13.9", "bbbb", "factory/metal-installer/bbbb:v1.13.9")
NEW = Running("v1.13.9", "bbbb", "boot-2", "running")
FRESH = replace(NEW, stage="booting", unproved=True)
AGAIN = replace(OLD, boot="boot-3")

Words = list[str]


class Said(Reporter):
    def __init__(self) -> None:
        super().__init__("")
        self.words: Words = []

    def _log(self, text: str, severity: object, *, ephemeral: bool) -> None:
        self.words.append(text)


@dataclass
class Played:
    """A node that answers from a script; its last answer goes on for ever. What was done to it is kept."""

    answers: list[Running | None]
    after: dict[str, list[Running | None]] = field(default_factory=dict)
    refuses: Exception | None = None
    done: list[str] = field(default_factory=list)

    def look(self) -> Running | None:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def _act(self, what: str) -> None:
        self.done.append(what)
        self.answers = self.after.get(what, self.answers)

    def upgrade(self, installer: str) -> None:
        if self.refuses is not None:
            raise self.refuses
        assert installer == TARGET.installer
        self._act("upgrade")

    def roll_back(self) -> None:
        self._act("roll back")

    def power_cycle(self) -> None:
        self._act("power cycle")


def quick() -> Callable[[float], Deadline]:
    """Deadlines that are over after as many looks as device minutes."""

    def make(seconds: float) -> Deadline:
        left = [seconds]

        def sleep(_: float) -> None:
            left[0] -= 60

        return Deadline(seconds, clock=lambda: seconds - left[0], sleep=sleep)

    return make


def run(device: Played, report: Said | None = None) -> Running:
    return bring(Node("node2", "10.0.0.2", 2, device), TARGET, report or Said(), quick())


def test_it_drains_installs_reboots_and_is_confirmed() -> None:
    device = Played([OLD], {"upgrade": [OLD, None, None, FRESH, replace(FRESH, stage="running"), NEW]})
    assert run(device) == NEW
    assert device.done == ["upgrade"]


def test_a_node_that_is_there_already_is_left_alone() -> None:
    device = Played([NEW])
    assert run(device) == NEW
    assert device.done == []


def test_what_a_killed_run_began_is_only_waited_for() -> None:
    device = Played([replace(OLD, stage="upgrading"), None, FRESH, NEW])
    assert run(device) == NEW
    assert device.done == []
    assert run(Played([FRESH, FRESH, NEW])) == NEW


def test_a_node_that_does_not_answer_is_not_touched() -> None:
    device = Played([None])
    with pytest.raises(UnreachableError, match="was not upgraded"):
        run(device)
    assert device.done == []


def test_an_image_that_no_registry_has_stops_it_before_anything_happens() -> None:
    device = Played([OLD], refuses=TalosError("10.0.0.2: Upgrade: not found", "UNKNOWN"))
    with pytest.raises(UpgradeError, match=r"refuses to go to Talos v1\.13\.9, nothing was done: .*not found"):
        run(device)


def test_an_answer_that_was_lost_is_no_failure() -> None:
    device = Played([OLD, OLD, None, NEW], refuses=UnreachableError("cut"))
    assert run(device) == NEW


def test_a_node_that_comes_back_on_its_old_version_is_no_success() -> None:
    device = Played([OLD], {"upgrade": [None, AGAIN]})
    with pytest.raises(UpgradeError, match=r"came back on Talos v1\.12\.11"):
        run(device)
    assert device.done == ["upgrade"]


def test_a_version_that_goes_back_by_itself_while_it_is_watched_is_no_success() -> None:
    device = Played([OLD], {"upgrade": [None, FRESH, FRESH, None, AGAIN]})
    with pytest.raises(UpgradeError, match=r"came back on Talos v1\.12\.11"):
        run(device)


def test_a_version_that_is_never_ready_is_rolled_back() -> None:
    ill = replace(FRESH, unmet=("services: kubelet not healthy",))
    device = Played([OLD], {"upgrade": [None, ill], "roll back": [ill, None, AGAIN]})
    said = Said()
    with pytest.raises(
        UpgradeError, match=r"rolled back to Talos v1\.12\.11, because on v1\.13\.9 .*kubelet"
    ) as caught:
        run(device, said)
    assert "talosctl -n 10.0.0.2 dmesg" in str(caught.value)
    assert device.done == ["upgrade", "roll back"]
    assert any("it is rolled back to its other slot" in word for word in said.words)


def test_a_node_that_is_not_ready_on_its_old_version_either_is_said_to_be() -> None:
    ill = replace(FRESH, unmet=("nodeReady: node is not ready",))
    device = Played([OLD], {"upgrade": [None, ill], "roll back": [None, replace(AGAIN, unmet=ill.unmet)]})
    with pytest.raises(
        UpgradeError, match=r"rolled back to Talos v1\.12\.11, where it is not ready either \(nodeReady"
    ):
        run(device)


def test_an_image_of_another_schematic_is_rolled_back() -> None:
    other = replace(NEW, schematic="cccc")
    device = Played([OLD], {"upgrade": [None, other], "roll back": [AGAIN]})
    with pytest.raises(UpgradeError, match="made from schematic cccc, not from bbbb"):
        run(device)


def test_other_extensions_that_failed_to_install_are_not_rolled_back_to_something_older() -> None:
    here = replace(OLD, version="v1.13.9")
    device = Played([here], {"upgrade": [None, replace(here, boot="boot-2")]})
    with pytest.raises(UpgradeError, match=r"came back on Talos v1\.13\.9 as it was"):
        run(device)
    assert device.done == ["upgrade"]


def test_a_schematic_that_nobody_knows_is_not_compared() -> None:
    target = replace(TARGET, schematic="")
    device = Played([OLD], {"upgrade": [None, replace(NEW, schematic="")]})
    assert bring(Node("n", "10.0.0.2", 1, device), target, Said(), quick()).version == "v1.13.9"


def test_a_silent_node_gets_its_power_cut_once_and_goes_on() -> None:
    device = Played([OLD], {"upgrade": [None], "power cycle": [None, FRESH, NEW]})
    said = Said()
    assert run(device, said) == NEW
    assert device.done == ["upgrade", "power cycle"]
    assert any("its power is cut once" in word for word in said.words)


def test_a_node_that_never_boots_says_what_to_type() -> None:
    device = Played([OLD], {"upgrade": [None]})
    with pytest.raises(UpgradeError) as caught:
        run(device)
    assert device.done == ["upgrade", "power cycle"]
    assert "its other slot still holds v1.12.11" in str(caught.value)
    assert "serial console of slot 2" in str(caught.value)
    assert "raise nodes.node2.generation by one" in str(caught.value)


def test_a_node_that_answers_and_stays_keeps_its_power() -> None:
    device = Played([OLD])
    with pytest.raises(UpgradeError, match="its power was not touched"):
        run(device)
    assert device.done == ["upgrade"]


def test_a_board_that_gives_no_power_is_said() -> None:
    class Boardless(Played):
        def power_cycle(self) -> None:
            raise DeadlineError("board1: busy")

    with pytest.raises(UpgradeError, match="board1: busy"):
        run(Boardless([OLD], {"upgrade": [None]}))
