"""Failure modes 4a: flashing through a BMC, seen from `up`. What a single flash does is in tests/providers/turingpi."""

from __future__ import annotations

from pathlib import Path

import pytest

from providers.deadline import Deadline
from providers.turingpi.flash import flash
from providers.turingpi.image import fetch
from tests.faults.conftest import ON_THE_WAY, CameUp, Mistaken
from tests.faults.house import BOARD
from tests.providers.turingpi.lab import FAST, running
from twin.image import Image as Content
from twin.image import make

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

NODES = ["node1", "node2", "node3", "node4"]


def test_4a_one_up_survives_all_of_them(came_up: CameUp) -> None:
    """Every fault below hit one and the same run, and it ended with four Ready nodes."""
    came_up.run.ok()
    lab = came_up.lab
    assert lab.ready() == dict.fromkeys(NODES, True)
    never = {"bmc-tmp-full"}
    assert {fault["name"]: lab.played(fault["name"]) > 0 for fault in ON_THE_WAY} == {
        fault["name"]: fault["name"] not in never for fault in ON_THE_WAY
    }


def test_4a_1_a_hijacked_flash_is_done_again(came_up: CameUp) -> None:
    """The stranger's transfer is not taken for ours, nor the Done of an older one."""
    lab = came_up.lab
    assert lab.played("flash-hijack") == lab.played("flash-stale-done") == 1
    assert lab.count("flash_done")["m1"] == 1
    assert lab.count("flash_started")["m1"] == 3  # ours, the stranger's, ours again


def test_4a_1_one_board_writes_one_module_at_a_time(came_up: CameUp) -> None:
    lab = came_up.lab
    writing: str | None = None
    for event in lab.since(0, "flash_started", "flash_done", "flash_failed", "bmc_down"):
        if event["kind"] == "flash_started" and event["node"] != "m1":  # the stranger cut in on m1
            assert writing is None, f"{event['node']} while {writing} is written"
        writing = event["node"] if event["kind"] == "flash_started" else None


def test_4a_2_a_handle_that_expired_is_asked_for_again(came_up: CameUp) -> None:
    assert came_up.lab.played("flash-send-timeout") == 1
    assert came_up.lab.count("flash_done")["m2"] == 1


def test_4a_3_a_node_is_powered_after_its_flash(came_up: CameUp) -> None:
    """The BMC leaves it off."""
    lab = came_up.lab
    for node in NODES:
        kinds = [event["kind"] for event in lab.since(0, "flash_done", "power_on", "boot_started", node=node)]
        assert kinds[kinds.index("flash_done") :][:3] == ["flash_done", "power_on", "boot_started"], node


def test_4a_4_a_module_that_usb_boot_left_hanging_is_flashed(came_up: CameUp) -> None:
    lab = came_up.lab
    assert lab.played("usb-boot-fails") == 1
    assert lab.count("flash_done")["m3"] == 1
    assert all(lab.machine(node)["power"] for node in NODES)


def test_4a_5_a_bmc_out_of_memory_is_waited_for_and_not_rebooted(came_up: CameUp) -> None:
    """m4 is the last one: three nodes run, and rebooting the BMC would keep them off."""
    lab = came_up.lab
    assert lab.played("bmc-oom") == 1
    assert lab.count("flash_done")["m4"] == 1
    assert len(lab.events("bmc_down")) == 1


def test_4a_5_the_second_flash_in_a_row_kills_the_bmc_and_is_done_again(tmp_path: Path) -> None:
    """A leak: each second flash since its start costs bmcd its life. Two modules on one board, one after the other."""
    content = Content("schematic", "v1.13.9", overlay="turingrk1")
    (tmp_path / "metal.raw").write_bytes(b"".join(make(content, 1 << 20)))
    image = fetch(str(tmp_path / "metal.raw"), cache=tmp_path / "cache")
    with running(tmp_path) as board:
        board.fault("bmc-leak", board="new", count=2, for_s=50)
        with board.bmc("new") as bmc:
            done = [flash(bmc, slot, image, lambda: {1: True, 2: True}, Deadline(60), pace=FAST) for slot in (1, 2)]
            assert bmc.power()[1]
            assert bmc.power()[2]
        assert [flashed.attempts for flashed in done] == [1, 2]
        assert [event["node"] for event in board.events("flash_done")] == ["new1", "new2"]


def test_4a_6_no_image_is_put_on_the_bmc(came_up: CameUp) -> None:
    """Its /tmp has no room all the while, and nobody notices."""
    assert came_up.lab.played("bmc-tmp-full") == 0


def test_4a_7_a_password_that_was_reset_is_one_try_and_a_clear_word(mistaken: Mistaken) -> None:
    assert mistaken.locked_out.code != 0
    said = mistaken.locked_out.output
    assert "is not let in" in said
    assert f"{mistaken.lab.prefix}.60" in said
    assert "username and password in the settings" in said
    assert mistaken.bad_logins == 1
    assert "banned" not in said


def test_4a_8_firmware_2_0_and_1_1_from_nothing_to_ready(mistaken: Mistaken) -> None:
    """Other shapes, other numbers, no checksum, and plain http without a login on 1.1."""
    mistaken.mended.ok()
    lab = mistaken.lab
    firmwares = {name: board["firmware"] for name, board in lab.hardware()["boards"].items()}
    assert firmwares == {BOARD: "v2.0.5", "board2": "v1.1.0"}
    assert lab.ready() == {"node1": True, "node2": True}
    assert lab.count("flash_done") == {"m1": 1, "m2": 1}


def test_4a_9_a_disk_that_changed_its_name_is_found_by_its_size(came_up: CameUp) -> None:
    lab = came_up.lab
    assert lab.played("disk-renamed") == 1
    kinds = [event["kind"] for event in lab.since(0, "install_started", "install_failed", "install_done", node="node4")]
    assert kinds == ["install_started", "install_done"]


def test_4a_10_done_is_believed_when_the_module_has_booted(came_up: CameUp) -> None:
    """`up` goes on to a node's config after its kernel was seen; what a damaged write does is tried flash by flash."""
    lab = came_up.lab
    for node in NODES:
        kinds = [event["kind"] for event in lab.since(0, "flash_done", "boot_started", "config_applied", node=node)]
        assert kinds[kinds.index("flash_done") + 1] == "boot_started", node
        assert kinds.index("flash_done") < kinds.index("config_applied"), node
